package plan

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

// An add-on that fails before the system pods are Ready may fail because of them.
func TestInstall_NamesTheSystemPodThatIsNotReady(t *testing.T) {
	server, _ := kubetest.New(t)
	c, fake := example(t)
	fake.Units[k0s.ControllerUnit] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	testkit.Must(t, fake.Host().Write(k0s.AdminConf, strings.NewReader(string(kubetest.Kubeconfig(t, server))), 0o600))
	failed := errors.New("the console is not Ready")
	s := c.namingSystemPods(step.Step{Apply: func(context.Context, step.Report) error { return failed }})
	for _, tc := range []struct {
		name, phase, want string
	}{
		{"no pod", "", "the console is not Ready"},
		{"a pod that waits", "Pending", "the console is not Ready; pod kube-system/coredns-1: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.phase != "" {
				server.Put("/api/v1/namespaces/kube-system/pods/coredns-1", map[string]any{"apiVersion": "v1", "kind": "Pod",
					"metadata": map[string]any{"name": "coredns-1"}, "status": map[string]any{"phase": tc.phase}})
			}
			err := s.Apply(t.Context(), func(string, int64, int64) {})
			if !errors.Is(err, failed) || !strings.HasPrefix(err.Error(), tc.want) || tc.phase == "" && err.Error() != tc.want {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}
