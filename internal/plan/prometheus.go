package plan

import (
	"context"
	"fmt"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/step"
)

// prometheusName is the name of the add-on from which the console takes its graphs.
const prometheusName = "prometheus"

// prometheusURL returns the URL at which the console reaches Prometheus.
func prometheusURL(a addons.AddOn) string {
	return fmt.Sprintf("http://prometheus.%s.svc.%s:9090", a.Namespace, a.ClusterDomain)
}

// configureGraphs returns the step that tells the console of Prometheus, unless it takes its graphs from another one.
func (c Cluster) configureGraphs(a addons.AddOn) step.Step {
	return c.consoleStep(step.Step{ID: "console-graphs", Title: "Tell the console of Prometheus", Affects: []string{"namespace " + c.Console.Namespace}},
		func(ctx context.Context, k *kots.Client) (string, error) {
			address, err := k.Parameter(ctx, kots.PrometheusAddress)
			if address != "" || err != nil {
				return "", err
			}
			return "the console does not know of Prometheus", nil
		},
		func(ctx context.Context, k *kots.Client, _ step.Report) error {
			return k.SetParameter(ctx, kots.PrometheusAddress, prometheusURL(a))
		})
}

// forgetGraphs tells the console that the add-on a is removed, unless it takes its graphs from another Prometheus.
func (c Cluster) forgetGraphs(ctx context.Context, a addons.AddOn) error {
	k, err := c.consoleDriver(ctx)
	if err != nil {
		return err
	}
	address, err := k.Parameter(ctx, kots.PrometheusAddress)
	if err != nil || address != prometheusURL(a) {
		return err
	}
	return k.SetParameter(ctx, kots.PrometheusAddress, "")
}
