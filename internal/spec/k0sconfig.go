package spec

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

// checkK0sConfig checks the top-level keys of the overlay and that it does not set
// reserved fields. The types of k0s validate the rest.
func (r reader) checkK0sConfig() {
	const path = "spec.k0s.config"
	root := r.NodeAt(path)
	if root == nil || root.Kind != yaml.MappingNode {
		return
	}
	known := []string{"apiVersion", "kind", "metadata", "spec", "status"}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if key := root.Content[i]; key.Kind == yaml.ScalarNode && !slices.Contains(known, key.Value) {
			r.Report("k0s-config", strictyaml.JoinPath(path, key.Value), key, "is not a key of a ClusterConfig", "settings belong below "+path+".spec")
		}
	}
	if key, spec := strictyaml.Child(root, "spec"); key != nil && spec.Kind != yaml.MappingNode {
		r.Report("wrong-type", path+".spec", spec, "must be a mapping, found "+strictyaml.DescribeNode(spec), "")
	}
	for _, owned := range ReservedFields() {
		n, key := root, (*yaml.Node)(nil)
		for name := range strings.SplitSeq(owned.Path, ".") {
			if key, n = strictyaml.Child(n, name); n == nil {
				break
			}
		}
		if key != nil {
			r.Report("k0s-config", path+"."+owned.Path, key, "this field is reserved for Plinth", owned.Reason)
		}
	}
}
