package addons

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

// withCharts returns the documented Installer with charts.
func withCharts(charts ...spec.Chart) *spec.Installer {
	in := &spec.Installer{Spec: spec.Spec{
		K0s: spec.K0s{Version: "v1.33.8+k0s.1"}, Network: spec.Network{PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/12", NodePortRange: "80-32767"},
		LocalPathStorage: &spec.AddOn{Version: newest("localPathStorage")}, Registry: &spec.AddOn{Version: newest("registry")},
		Kotsadm: &spec.Kotsadm{Version: "1.131.2", Namespace: "kotsadm", UIBindPort: 8800}, Charts: charts}}
	in.Metadata.Name = "my-app"
	return in
}

// newest returns the newest version of an add-on.
func newest(key string) string {
	all, err := NewestVersions()
	if err != nil {
		panic(err)
	}
	return all[key]
}

func TestResolve_OrdersChartsByAfter(t *testing.T) {
	const own = "local-path-storage %registry kotsadm"
	for name, c := range map[string]struct {
		charts []spec.Chart
		want   string
	}{
		"none":                         {nil, strings.ReplaceAll(own, "%", "")},
		"between storage and console":  {[]spec.Chart{{Name: "b"}, {Name: "a"}}, strings.ReplaceAll(own, "%", "b a ")},
		"after each other":             {[]spec.Chart{{Name: "b", After: []string{"a"}}, {Name: "a"}}, strings.ReplaceAll(own, "%", "a b ")},
		"after an add-on, and another": {[]spec.Chart{{Name: "b", After: []string{"registry"}}, {Name: "a"}}, "local-path-storage registry b a kotsadm"},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := Resolve(withCharts(c.charts...), "/data")
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, a := range all {
				names = append(names, a.Name)
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestValidateCharts_RefusesNamespacesOfAddOns(t *testing.T) {
	for name, refused := range map[string]bool{"registry": true, "local-path-storage": true, "velero": false, "kotsadm": false, "default": false} {
		t.Run(name, func(t *testing.T) {
			got := ValidateCharts(withCharts(spec.Chart{Name: "a", Namespace: "a"}, spec.Chart{Name: "b", Namespace: name}))
			if (len(got) > 0) != refused || refused && (got[0].Rule != "chart-namespace" || got[0].Path != "spec.charts[1].namespace" || !strings.HasPrefix(got[0].Message, name+" is the namespace of Plinth's add-on ")) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Charts can use the kinds of the ingress controller, and addresses of the load balancer.
func TestResolve_InstallsChartsAfterTheIngressController(t *testing.T) {
	in := withCharts(spec.Chart{Name: "a"})
	in.Spec.LoadBalancer, in.Spec.Ingress = &spec.LoadBalancer{Version: newest("loadBalancer")}, &spec.Ingress{Version: newest("ingress")}
	all, err := Resolve(in, "/data")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range all {
		names = append(names, a.Name)
	}
	if got := strings.Join(names, " "); got != "local-path-storage load-balancer ingress a registry kotsadm" {
		t.Error(got)
	}
}

func TestResolve_DescribesCharts(t *testing.T) {
	all, err := Resolve(withCharts(spec.Chart{Name: "a", Version: "1.0.0", Namespace: "n", Timeout: "90s", Values: map[string]any{"port": 8080}}), "/data")
	if err != nil {
		t.Fatal(err)
	}
	a := all[1]
	if !a.External || !a.Optional || a.Namespace != "n" || a.Release != "a" || a.Wait().String() != "1m30s" || a.Values["port"] != 8080.0 {
		t.Errorf("%+v", a)
	}
	if own := all[0]; own.External || own.Wait() != defaultWait {
		t.Errorf("%+v", own)
	}
}

func TestValidateCharts_RefusesNamesOfAddOns(t *testing.T) {
	for name, refused := range map[string]bool{"local-path-storage": true, "registry": true, "console-proxy": true, "load-balancer": true, "traefik": false, "metallb": false} {
		t.Run(name, func(t *testing.T) {
			got := ValidateCharts(withCharts(spec.Chart{Name: "first"}, spec.Chart{Name: name}))
			if (len(got) > 0) != refused || refused && (got[0].Rule != "chart-name" || got[0].Path != "spec.charts[1].name") {
				t.Errorf("%+v", got)
			}
		})
	}
}
