package plan

import (
	"bytes"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestCoreDNS_IsUsedEarlyUntilTheSystemPodsAreReady(t *testing.T) {
	f := hosttest.New(t)
	h := f.Host()
	f.Units[k0s.ControllerUnit] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	s, _ := kubetest.New(t)
	testkit.Must(t, h.Write(k0s.AdminConf, bytes.NewReader(kubetest.Kubeconfig(t, s)), 0o600))
	c := Cluster{Host: h, K0s: k0s.Service{Host: h}}
	const deployment, service = "/apis/apps/v1/namespaces/kube-system/deployments/coredns", "/api/v1/namespaces/kube-system/services/kube-dns"
	published := func() any {
		spec, _ := s.Object(service)["spec"].(map[string]any)
		return spec["publishNotReadyAddresses"]
	}
	s.SetAdmit(nil)
	for _, tc := range []struct {
		name    string
		objects map[string]map[string]any
		step    step.Step
		kind    step.StateKind
		after   any
	}{
		{"k0s runs no CoreDNS", nil, c.useCoreDNSEarly(), step.KindDone, nil},
		{"one is Ready", map[string]map[string]any{
			service:    {"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "kube-dns"}, "spec": map[string]any{}},
			deployment: {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "coredns"}, "status": map[string]any{"readyReplicas": 1}},
		}, c.useCoreDNSEarly(), step.KindDone, nil},
		{"nothing to end", nil, c.useCoreDNSWhenReady(), step.KindDone, nil},
		{"none is Ready", map[string]map[string]any{
			deployment: {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "coredns"}, "status": map[string]any{"replicas": 1}},
		}, c.useCoreDNSEarly(), step.KindNeeded, true},
		{"a second run", nil, c.useCoreDNSEarly(), step.KindDone, true},
		{"the system pods are Ready", nil, c.useCoreDNSWhenReady(), step.KindNeeded, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for at, object := range tc.objects {
				s.Put(at, object)
			}
			st, err := tc.step.Check(t.Context())
			if err != nil || st.Kind != tc.kind {
				t.Fatalf("%+v, %v", st, err)
			}
			if st.Kind == step.KindNeeded {
				testkit.Must(t, tc.step.Apply(t.Context(), func(string, int64, int64) {}))
			}
			if got := published(); got != tc.after {
				t.Errorf("publishNotReadyAddresses: %v, want %v", got, tc.after)
			}
		})
	}
	t.Run("k0s does not run", func(t *testing.T) {
		f.Units[k0s.ControllerUnit] = host.UnitState{}
		if st, err := c.useCoreDNSEarly().Check(t.Context()); err != nil || st.Kind != step.KindUnknown {
			t.Errorf("%+v, %v", st, err)
		}
	})
}
