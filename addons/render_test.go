package addons_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

// resolveAll returns the add-ons of an Installer that requests every one.
func resolveAll(t *testing.T) []addons.AddOn {
	t.Helper()
	in := &spec.Installer{}
	in.Spec.Network.PodCIDR, in.Spec.Network.ServiceCIDR = "10.244.0.0/16", "10.96.0.0/12"
	in.Spec.LocalPathStorage = &spec.AddOn{Version: "0.0.30"}
	in.Spec.Kotsadm = &spec.Kotsadm{Version: "1.131.2", Namespace: "kotsadm", UIBindPort: 8800}
	in.Spec.Registry = &spec.AddOn{Version: "3.1.2"}
	in.Spec.Velero = &spec.Velero{Version: "1.18.3", ObjectStore: spec.ObjectStore{Mode: "builtin"}}
	in.Spec.Prometheus = &spec.Prometheus{Version: "3.16.0", Retention: "15d", RetentionSize: "10GB"}
	in.Spec.LoadBalancer = &spec.LoadBalancer{Version: "0.16.2", Addresses: []string{"192.168.1.240/28", "192.168.2.1-192.168.2.9"}}
	in.Spec.Ingress = &spec.Ingress{Version: "3.7.13", Expose: spec.ExposeLoadBalancer, Address: "192.168.1.245", HTTPPort: 80, HTTPSPort: 443}
	all, err := addons.Resolve(in, "/var/lib/plinth")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// renderChart returns the objects of an add-on's chart as YAML.
func renderChart(t *testing.T, a addons.AddOn) []byte {
	t.Helper()
	r := helm.Release{Name: a.Release, Namespace: a.Namespace, Archive: a.Chart.Archive, Values: a.Values}
	out, err := r.Render("v1.33.8")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCharts_RenderLikeTheirGoldens(t *testing.T) {
	for _, a := range resolveAll(t) {
		t.Run(a.Release, func(t *testing.T) { testkit.Golden(t, "testdata/"+a.Release+".yaml", withoutCRDs(renderChart(t, a))) })
	}
}

// Programs refuse a file that is not valid YAML when they start, not when the chart is rendered.
func TestCharts_HaveValidYAMLInConfigMaps(t *testing.T) {
	for _, a := range resolveAll(t) {
		objects, err := kube.Decode(renderChart(t, a))
		testkit.Must(t, err)
		for _, obj := range objects {
			data, _, _ := unstructured.NestedStringMap(obj.Object, "data")
			for file, text := range data {
				if obj.GetKind() != "ConfigMap" || !strings.HasSuffix(file, ".yml") && !strings.HasSuffix(file, ".yaml") {
					continue
				}
				t.Run(a.Name+" "+obj.GetName()+" "+file, func(t *testing.T) {
					var got map[string]any
					if err := yaml.Unmarshal([]byte(text), &got); err != nil || len(got) == 0 {
						t.Errorf("%v: %v", got, err)
					}
				})
			}
		}
	}
}

// withoutCRDs returns manifests without definitions of custom resources, which contain no template.
func withoutCRDs(manifests []byte) []byte {
	var kept []string
	for doc := range strings.SplitSeq(string(manifests), "---\n") {
		if !strings.Contains(doc, "\nkind: CustomResourceDefinition\n") {
			kept = append(kept, doc)
		}
	}
	return []byte(strings.Join(kept, "---\n"))
}

// TestCharts_HardenTheirContainers checks every Deployment of the charts,
// whatever else the goldens contain.
func TestCharts_HardenTheirContainers(t *testing.T) {
	for _, a := range resolveAll(t) {
		t.Run(a.Name, func(t *testing.T) {
			objects, err := kube.Decode(renderChart(t, a))
			if err != nil {
				t.Fatal(err)
			}
			for _, obj := range objects {
				if obj.GetKind() != "Deployment" {
					continue
				}
				text, err := obj.MarshalJSON()
				if err != nil {
					t.Fatal(err)
				}
				for _, want := range []string{
					`"runAsNonRoot":true`, `"readOnlyRootFilesystem":true`, `"allowPrivilegeEscalation":false`, `"drop":["ALL"]`,
					`"imagePullPolicy":"IfNotPresent"`, `"RuntimeDefault"`, `"requests":`, `"limits":`,
				} {
					if !strings.Contains(string(text), want) {
						t.Errorf("%s lacks %s", obj.GetName(), want)
					}
				}
			}
		})
	}
}

func TestAddOn_ListsEveryImageOfItsChart(t *testing.T) {
	for _, a := range resolveAll(t) {
		t.Run(a.Name, func(t *testing.T) {
			listed := strings.Join(a.ImageRefs(), "\n") + "\n"
			for line := range strings.Lines(string(renderChart(t, a))) {
				_, ref, found := strings.Cut(strings.TrimSpace(line), "image: ")
				if found && !strings.Contains(listed, ref+"\n") {
					t.Errorf("the chart runs %s, which addon.yaml does not list", ref)
				}
			}
		})
	}
}
