package entry

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/step"
)

// porter counts how often it was asked.
type porter struct{ asked int }

func (p *porter) Admit(context.Context, step.Report) ([]byte, map[string][]byte, error) {
	p.asked++
	return []byte("token"), map[string][]byte{k0s.RegistryDir + "/r/hosts.toml": []byte("x")}, nil
}

func TestAControllerThatIsNoMemberAsksInEachRunAndAWorkerOnce(t *testing.T) {
	for _, worker := range []bool{false, true} {
		h := hosttest.New(t).Host()
		p := &porter{}
		a := Admission{Host: h, K0s: k0s.Service{Host: h, Worker: worker, Joins: true}, Door: p, Now: time.Now}
		once := func() {
			t.Helper()
			if _, err := (step.Runner{Verb: "join", Now: time.Now}).Run(t.Context(), []step.Step{a.Ask()}); err != nil {
				t.Fatal(err)
			}
		}
		once()
		once()
		if want := map[bool]int{false: 2, true: 1}[worker]; p.asked != want {
			t.Errorf("worker %v: asked %d times, want %d", worker, p.asked, want)
		}
		member := k0s.EtcdMember + "/wal/0.wal"
		if worker {
			member = k0s.KubeletConf
		}
		if err := h.Write(member, strings.NewReader("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := p.asked
		if once(); p.asked != before {
			t.Error("a member asked again")
		}
	}
}
