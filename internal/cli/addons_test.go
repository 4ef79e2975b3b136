package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
)

func TestAddons_ListsAndShows(t *testing.T) {
	for line, c := range map[string]struct {
		exit int
		want string // a part of the output, or of the error
	}{
		"addons list":                                 {0, "spec.localPathStorage"},
		"addons show registry":                        {0, "docker.io/distribution/distribution:"},
		"addons show kotsadm":                         {0, "docker.io/kotsadm/kotsadm:vVERSION"},
		"addons show kotsadm --addon-version 1.130.0": {0, "docker.io/kotsadm/kotsadm:v1.130.0"},
		"addons show metricsServer":                   {0, "spec.metricsServer.disabled: true turns it off"},
		"addons show longhorn":                        {problem.ExitUsage, "cannot show add-on longhorn: this build of plinth has no such add-on"},
		"addons show registry --addon-version 0.0.1":  {problem.ExitConfig, `version "0.0.1" is not supported`},
	} {
		t.Run(line, func(t *testing.T) {
			code, stdout, stderr := runPlinth(t, strings.Fields(line)...)
			if code != c.exit || !strings.Contains(stdout+stderr, c.want) || code == 0 && !strings.Contains(stdout, "Apache-2.0") {
				t.Errorf("exit %d: %s%s", code, stdout, stderr)
			}
		})
	}
	for name, wants := range map[string][]string{
		"load-balancer": {"spec.loadBalancer", "Apache-2.0", "quay.io/metallb/controller:v0.16.2", "quay.io/metallb/speaker:v0.16.2"},
		"ingress":       {"spec.ingress", "MIT", "docker.io/library/traefik:v3.7.13"},
		"prometheus": {"spec.prometheus", "Apache-2.0", "quay.io/prometheus/prometheus:v3.16.0", "quay.io/prometheus/alertmanager:v0.35.0",
			"quay.io/prometheus/node-exporter:v1.12.1", "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.18.0"},
	} {
		t.Run("addons show "+name, func(t *testing.T) {
			code, stdout, stderr := runPlinth(t, "addons", "show", name)
			for _, want := range wants {
				if code != 0 || !strings.Contains(stdout, want) {
					t.Errorf("exit %d: no %s in %s%s", code, want, stdout, stderr)
				}
			}
		})
	}
	t.Run("JSON", func(t *testing.T) {
		_, stdout, _ := runPlinth(t, "addons", "list", "-o", "json")
		var got struct {
			Result struct {
				AddOns []struct{ Name, Key, License string } `json:"addons"`
			} `json:"result"`
		}
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got.Result.AddOns) < 3 || got.Result.AddOns[0].Key == "" {
			t.Errorf("%v: %s", err, stdout)
		}
	})
}
