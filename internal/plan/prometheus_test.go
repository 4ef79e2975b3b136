package plan

import (
	"slices"
	"testing"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/spec"
)

func TestAddOnSteps_TellTheConsoleOfPrometheus(t *testing.T) {
	in := &spec.Installer{}
	in.Spec.Network.PodCIDR, in.Spec.Network.ServiceCIDR = "10.244.0.0/16", "10.96.0.0/12"
	in.Spec.Prometheus = &spec.Prometheus{Version: "3.16.0", Retention: "15d", RetentionSize: "10GB"}
	parts, err := addons.Resolve(in, "/var/lib/plinth")
	if err != nil {
		t.Fatal(err)
	}
	if url := prometheusURL(parts[0]); url != "http://prometheus.prometheus.svc.cluster.local:9090" {
		t.Error(url)
	}
	for namespace, want := range map[string][]string{"": {"prometheus"}, "kotsadm": {"prometheus", "console-graphs"}} {
		t.Run(namespace, func(t *testing.T) {
			var ids []string
			for _, s := range (Cluster{AddOns: parts, Console: Console{Namespace: namespace}}).addOnSteps() {
				ids = append(ids, s.ID)
			}
			if !slices.Equal(ids, want) {
				t.Errorf("%v, want %v", ids, want)
			}
		})
	}
}
