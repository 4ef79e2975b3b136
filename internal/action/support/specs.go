package support

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/internal/problem"
)

// Specs of support bundles in the cluster: Secrets and ConfigMaps with this label and key, of the vendor's application, of
// KOTS (pkg/supportbundle/spec.go, v1.131.2: its own and all that it has found, as it collects them) and of Plinth.
// troubleshoot.sh's program finds them by either label (v0.133.0, pkg/constants).
const (
	specKey     = "support-bundle-spec"
	folderSpecs = "support-bundle-specs/"
)

// specSelectors select the objects with a spec.
var specSelectors = []string{"troubleshoot.sh/kind=support-bundle", "troubleshoot.io/kind=support-bundle"}

// specFiles returns the specs of support bundles in the cluster, as files that troubleshoot.sh's program takes. They are
// not carried out. What cannot be read is listed in failed.
func (c *collector) specFiles(ctx context.Context) (all, failed []file) {
	if c.install.Worker {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	for _, selector := range specSelectors {
		options := metav1.ListOptions{LabelSelector: selector}
		secrets, err := c.client.Core().Secrets("").List(ctx, options)
		if err != nil {
			failed = append(failed, file{folderSpecs + "secrets", []byte(problem.ExplainConnection(err))})
			secrets = &corev1.SecretList{}
		}
		for _, s := range secrets.Items {
			all = append(all, splitSpec(folderSpecs+s.Namespace+"/secret-"+s.Name, s.Data[specKey])...)
		}
		maps, err := c.client.Core().ConfigMaps("").List(ctx, options)
		if err != nil {
			failed = append(failed, file{folderSpecs + "configmaps", []byte(problem.ExplainConnection(err))})
			continue
		}
		for _, m := range maps.Items {
			all = append(all, splitSpec(folderSpecs+m.Namespace+"/configmap-"+m.Name, []byte(m.Data[specKey]))...)
		}
	}
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(all, func(a, b file) bool { return a.name == b.name }), failed // an object may have both labels
}

// splitSpec returns the documents of a spec as files, in JSON: what is removed from it does not make it invalid, and
// every reader of YAML reads it. A document that cannot be read is added as text.
func splitSpec(name string, spec []byte) (all []file) {
	for i, doc := range bytes.Split(append([]byte("\n"), spec...), []byte("\n---")) {
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		suffix := ""
		if i > 0 {
			suffix = "-" + strconv.Itoa(i)
		}
		content, err := yaml.YAMLToJSON(doc)
		if err != nil {
			all = append(all, file{name + suffix + ".yaml", doc})
			continue
		}
		if string(content) != "null" { // a comment
			all = append(all, file{name + suffix + ".json", content})
		}
	}
	return all
}
