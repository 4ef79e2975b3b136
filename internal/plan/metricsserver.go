package plan

import (
	"context"
	"errors"
	"fmt"

	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
)

// MetricsServer is the workload of metrics-server, as the comparison of a cluster's health names it.
const MetricsServer = "Deployment " + systemNamespace + "/metrics-server"

// The label of what k0s creates from a folder of manifests, and its value for metrics-server (k0s 1.33.8, pkg/applier/meta.go).
const (
	stackLabel         = "k0s.k0sproject.io/stack"
	metricsServerStack = "metricserver"
)

// removeMetricsServerID is the id of the step that removes metrics-server.
const removeMetricsServerID = "metrics-server-removal"

// leftOfMetricsServer returns what k0s has created for metrics-server, in the order of its deletion. A chart of the vendor
// can bring objects of the same names, which stay.
func leftOfMetricsServer(ctx context.Context, client *kube.Client) (left []kube.Object, err error) {
	for _, system := range (k0s.Settings{}).SystemObjects() {
		if system.Component != k0s.MetricsServer {
			continue
		}
		o := kube.Object{APIVersion: system.APIVersion, Kind: system.Kind, Namespace: system.Namespace, Name: system.Name}
		found, err := client.Get(ctx, o)
		switch {
		case errors.Is(err, kube.ErrNotFound):
		case err != nil:
			return nil, fmt.Errorf("%s: %w", o, err)
		case found.GetLabels()[stackLabel] == metricsServerStack:
			left = append(left, o)
		}
	}
	return left, nil
}

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
			left, err := leftOfMetricsServer(ctx, client)
			if err != nil {
				return step.Needed(err.Error()), ctx.Err()
			}
			if len(left) > 0 {
				return step.Needed(left[0].String() + " exists"), nil
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return err
			}
			left, err := leftOfMetricsServer(ctx, client)
			for _, o := range left {
				if err := client.Delete(ctx, o); err != nil {
					return err
				}
			}
			return err
		},
	}}
}
