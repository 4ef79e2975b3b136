package plan

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

// countingAdmitter counts the requests for admission.
type countingAdmitter struct {
	requests  int
	admission Admission
}

func (a *countingAdmitter) Admit(context.Context, step.Report) (Admission, error) {
	a.requests++
	return a.admission, nil
}

// newAdmission returns the admission of the host n1.
func newAdmission(t *testing.T) Admission {
	t.Helper()
	ca, err := pki.NewCA(pki.ClusterCAName, time.Now())
	testkit.Must(t, err)
	id := nodecert.Identity{Node: "n1", UID: "uid", Role: token.Controller, Address: "10.0.0.5"}
	identity, err := node.NewIdentity(time.Now())
	testkit.Must(t, err)
	identity, err = identity.Issue(id, ca, time.Now())
	testkit.Must(t, err)
	kubelet, err := IssueKubelet(id, ca, time.Now())
	testkit.Must(t, err)
	return Admission{Identity: identity, Kubelet: kubelet, K0sToken: []byte("token"), Files: map[string][]byte{k0s.RegistryDir + "/r/hosts.toml": []byte("x")}}
}

func TestAdmission_RequestsInEachRunOnlyOnControllerThatHasNotJoined(t *testing.T) {
	for _, tt := range []struct {
		name     string
		worker   bool
		requests int    // in two runs
		joined   string // file of a host that has joined
	}{
		{"controller", false, 2, k0s.EtcdMemberDir + "/wal/0.wal"},
		{"worker", true, 1, k0s.KubeletConf},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			admitter := &countingAdmitter{admission: newAdmission(t)}
			a := admission{Host: h, DataDir: "/var/lib/plinth", K0s: k0s.Service{Host: h, Worker: tt.worker, JoinsCluster: true}, Admitter: admitter, Now: time.Now}
			run := func() {
				t.Helper()
				if _, err := (step.Runner{Verb: "join", Now: time.Now}).Run(t.Context(), []step.Step{a.requestStep()}); err != nil {
					t.Fatal(err)
				}
			}
			run()
			run()
			if admitter.requests != tt.requests {
				t.Errorf("%d requests, want %d", admitter.requests, tt.requests)
			}
			for path, mode := range map[string]fs.FileMode{node.IdentityPath(a.DataDir): 0o600, k0s.TokenPath: 0o600, k0s.RegistryDir + "/r/hosts.toml": 0o644, k0s.KubeletConf: 0o600} {
				if info, err := h.Lstat(path); err != nil || info.Mode().Perm() != mode {
					t.Errorf("%s: %v, %v", path, info, err)
				}
			}
			if err := h.Write(tt.joined, strings.NewReader("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			before := admitter.requests
			if run(); admitter.requests != before {
				t.Error("a host that has joined requested admission again")
			}
		})
	}
}
