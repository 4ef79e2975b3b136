package plan

import (
	"bytes"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestRemoveMetricsServer_DeletesWhatK0sHasCreated(t *testing.T) {
	f := hosttest.New(t)
	h := f.Host()
	f.Units[k0s.ControllerUnit] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	s, _ := kubetest.New(t)
	testkit.Must(t, h.Write(k0s.AdminConf, bytes.NewReader(kubetest.Kubeconfig(t, s)), 0o600))
	const apps, rbac = "/apis/apps/v1/namespaces/kube-system/deployments/", "/apis/rbac.authorization.k8s.io/v1/clusterroles/"
	const deployment, role, other, foreign = apps + "metrics-server", rbac + "system:metrics-server", apps + "coredns", rbac + "system:aggregated-metrics-reader"
	for at, kind := range map[string][2]string{
		"/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io": {"apiregistration.k8s.io/v1", "APIService"},
		deployment: {"apps/v1", "Deployment"}, other: {"apps/v1", "Deployment"}, role: {"rbac.authorization.k8s.io/v1", "ClusterRole"},
	} {
		s.Put(at, map[string]any{"apiVersion": kind[0], "kind": kind[1], "metadata": map[string]any{"name": path.Base(at), "labels": map[string]any{stackLabel: metricsServerStack}}})
	}
	s.Put(foreign, map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
		"metadata": map[string]any{"name": path.Base(foreign), "labels": map[string]any{"app.kubernetes.io/managed-by": "Helm"}}})
	c := Cluster{Host: h, K0s: k0s.Service{Host: h, Settings: k0s.Settings{NoMetricsServer: true}}}
	remove := c.removeMetricsServer()[0]
	st, err := remove.Check(t.Context())
	if testkit.Must(t, err); st.Kind != step.KindNeeded || !strings.Contains(st.Reason, "v1beta1.metrics.k8s.io exists") {
		t.Errorf("before: %+v", st)
	}
	testkit.Must(t, remove.Apply(t.Context(), func(string, int64, int64) {}))
	if st, err = remove.Check(t.Context()); err != nil || st.Kind != step.KindDone {
		t.Errorf("after: %+v, %v", st, err)
	}
	if s.Object(deployment) != nil || s.Object(role) != nil || s.Object(other) == nil || s.Object(foreign) == nil {
		t.Error("other objects were deleted than those of metrics-server")
	}
}

func TestUpgrade_RemovesMetricsServerOnceNoControllerRunsIt(t *testing.T) {
	for name, disabled := range map[string]bool{"disabled": true, "enabled": false} {
		t.Run(name, func(t *testing.T) {
			c, _ := example(t)
			c.K0s.Settings.NoMetricsServer = disabled
			var ids []string
			for _, s := range Upgrade(c, Transition{From: "a", To: "b"}) {
				ids = append(ids, s.ID)
			}
			at := slices.Index(ids, removeMetricsServerID)
			if disabled != (at > slices.Index(ids, "system-images")) {
				t.Errorf("%q", ids)
			}
			ids = nil // the upgrade that is rolled back may have turned it on
			for _, s := range Rollback(c, Reversal{Snapshot: Snapshot{Version: 1}, Health: sameHealth{}}) {
				ids = append(ids, s.ID)
			}
			at = slices.Index(ids, removeMetricsServerID)
			if disabled != (at > slices.Index(ids, "rollback-start")) {
				t.Errorf("rollback: %q", ids)
			}
		})
	}
}
