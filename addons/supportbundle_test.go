package addons_test

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/testkit"
)

// supportBundleSpec returns the labels of the console chart's Secret with a spec of a support bundle, and the spec.
func supportBundleSpec(t *testing.T) (labels map[string]string, spec []byte) {
	t.Helper()
	for _, a := range resolveAll(t) {
		if a.Name != "kotsadm" {
			continue
		}
		objects, err := kube.Decode(renderChart(t, a))
		testkit.Must(t, err)
		for _, o := range objects {
			if o.GetName() != "plinth-support-bundle" {
				continue
			}
			raw, err := o.MarshalJSON()
			testkit.Must(t, err)
			var secret struct {
				Data map[string][]byte `json:"data"`
			}
			testkit.Must(t, yaml.Unmarshal(raw, &secret))
			return o.GetLabels(), secret.Data["support-bundle-spec"]
		}
	}
	t.Fatal("the console's chart has no spec of a support bundle")
	return nil, nil
}

func TestConsoleChart_HasASpecThatKOTSFinds(t *testing.T) {
	labels, spec := supportBundleSpec(t)
	if labels["troubleshoot.sh/kind"] != "support-bundle" {
		t.Errorf("%v", labels)
	}
	testkit.Golden(t, "testdata/support-bundle-spec.yaml", append(spec, '\n'))
	if strings.Contains(string(spec), "{{") {
		t.Error("KOTS would render it as a template")
	}
	var doc struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       struct {
			Collectors []map[string]map[string]any `json:"collectors"`
			Analyzers  []map[string]map[string]any `json:"analyzers"`
			Host       []any                       `json:"hostCollectors"`
		} `json:"spec"`
	}
	testkit.Must(t, yaml.Unmarshal(spec, &doc))
	if doc.APIVersion != "troubleshoot.sh/v1beta2" || doc.Kind != "SupportBundle" || len(doc.Spec.Analyzers) == 0 || doc.Spec.Host != nil {
		t.Errorf("%+v", doc)
	}
	for _, c := range doc.Spec.Collectors {
		for kind, options := range c {
			switch kind {
			case "clusterInfo", "clusterResources", "helm", "certificates":
			case "configMap", "logs": // KOTS sets no namespace in what it has found, so that of its own pod would be used
				if options["namespace"] == "" || options["namespace"] == nil {
					t.Errorf("%s %v has no namespace", kind, options["collectorName"])
				}
			default:
				t.Errorf("%s: it would start a pod, or needs what the bundle does not have", kind)
			}
		}
	}
}
