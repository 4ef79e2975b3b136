package upgrade

import (
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/testkit"
)

// An upgrade may remove metrics-server only if that is what changes, and nothing else with it.
func TestHealth_ToleratesOnlyWorkloadsThatTheUpgradeRemoves(t *testing.T) {
	const gone = ": it no longer exists"
	for name, c := range map[string]struct {
		was, is bool     // metrics-server is disabled
		gone    []string // of the Deployments before, after the upgrade
		want    []string
	}{
		"it is turned off":            {was: false, is: true, gone: []string{"metrics-server"}},
		"another one disappears, too": {was: false, is: true, gone: []string{"metrics-server", "coredns"}, want: []string{"Deployment kube-system/coredns" + gone}},
		"it stays on":                 {was: false, is: false, gone: []string{"metrics-server"}, want: []string{plan.MetricsServer + gone}},
		"it is turned on":             {was: true, is: false},
		"a vendor's own one is gone":  {was: true, is: true, gone: []string{"metrics-server"}, want: []string{plan.MetricsServer + gone}},
	} {
		t.Run(name, func(t *testing.T) {
			env, _, api := newClusterEnv(t, kube.UpgradeRecord{})
			path := func(name string) string { return "/apis/apps/v1/namespaces/kube-system/deployments/" + name }
			for _, name := range []string{"coredns", "metrics-server"} {
				if name == "metrics-server" && c.was && c.gone == nil {
					continue
				}
				api.Put(path(name), map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": name, "namespace": "kube-system", "generation": 1},
					"spec": map[string]any{"replicas": 1}, "status": map[string]any{"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}})
			}
			was, is := testInstaller(t), testInstaller(t)
			is.Spec.Kotsadm = nil // its console does not run here
			was.Spec.MetricsServer.Disabled, is.Spec.MetricsServer.Disabled = c.was, c.is
			h := (&operation{node: "c1", installed: was, config: config.Config{Installer: is}}).health(env)
			before, err := h.Gather(t.Context())
			testkit.Must(t, err)
			for _, name := range c.gone {
				api.Remove(path(name))
			}
			got, err := h.Worse(t.Context(), before)
			testkit.Must(t, err)
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
