package plan

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/step"
)

// countingAdmitter counts the requests for admission.
type countingAdmitter struct{ requests int }

func (a *countingAdmitter) Admit(context.Context, step.Report) ([]byte, map[string][]byte, error) {
	a.requests++
	return []byte("token"), map[string][]byte{k0s.RegistryDir + "/r/hosts.toml": []byte("x")}, nil
}

func TestJoinToken_RequestsInEachRunOnlyOnControllerThatHasNotJoined(t *testing.T) {
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
			admitter := &countingAdmitter{}
			token := joinToken{Host: h, K0s: k0s.Service{Host: h, Worker: tt.worker, JoinsCluster: true}, Admitter: admitter, Now: time.Now}
			run := func() {
				t.Helper()
				if _, err := (step.Runner{Verb: "join", Now: time.Now}).Run(t.Context(), []step.Step{token.requestStep()}); err != nil {
					t.Fatal(err)
				}
			}
			run()
			run()
			if admitter.requests != tt.requests {
				t.Errorf("%d requests, want %d", admitter.requests, tt.requests)
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
