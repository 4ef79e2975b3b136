package plan

import (
	"context"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
)

// metricsServerObjects returns what k0s creates for metrics-server (k0s 1.33.8, pkg/component/controller/metricserver.go),
// in the order in which it is to be deleted. The first is the registration of the API that the others serve: while it
// names a service without pods, no namespace can be deleted.
func metricsServerObjects() []kube.Object {
	const rbac, name = "rbac.authorization.k8s.io/v1", "metrics-server"
	return []kube.Object{
		{APIVersion: "apiregistration.k8s.io/v1", Kind: "APIService", Name: "v1beta1.metrics.k8s.io"},
		{APIVersion: "apps/v1", Kind: "Deployment", Namespace: systemNamespace, Name: name},
		{APIVersion: "v1", Kind: "Service", Namespace: systemNamespace, Name: name},
		{APIVersion: rbac, Kind: "ClusterRoleBinding", Name: "metrics-server:system:auth-delegator"},
		{APIVersion: rbac, Kind: "ClusterRoleBinding", Name: "system:metrics-server"},
		{APIVersion: rbac, Kind: "RoleBinding", Namespace: systemNamespace, Name: "metrics-server-auth-reader"},
		{APIVersion: rbac, Kind: "ClusterRole", Name: "system:metrics-server"},
		{APIVersion: rbac, Kind: "ClusterRole", Name: "system:aggregated-metrics-reader"},
		{APIVersion: "v1", Kind: "ServiceAccount", Namespace: systemNamespace, Name: name},
	}
}

// removeMetricsServerID is the id of the step that removes metrics-server.
const removeMetricsServerID = "metrics-server-removal"

// removeMetricsServer returns the step that removes metrics-server from a cluster that ran it, once no controller applies
// its manifests any more; none if the cluster has it. k0s removes it only if it runs while its manifests disappear.
func (c Cluster) removeMetricsServer() []step.Step {
	if !c.K0s.Settings.NoMetricsServer {
		return nil
	}
	return []step.Step{{ID: removeMetricsServerID, Title: "Remove metrics-server", Affects: []string{"metrics-server in " + systemNamespace},
		Check: func(ctx context.Context) (step.State, error) {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return step.Unknown(UpgradeK0sID), nil
			}
			for _, o := range metricsServerObjects() {
				there, err := client.Exists(ctx, o)
				if err != nil {
					return step.Needed(o.String() + ": " + err.Error()), ctx.Err()
				}
				if there {
					return step.Needed(o.String() + " exists"), nil
				}
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return err
			}
			for _, o := range metricsServerObjects() {
				if err := client.Delete(ctx, o); err != nil {
					return err
				}
			}
			return nil
		},
	}}
}
