package spec

import (
	"fmt"
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
		r.checkReserved(root, path, owned)
	}
	_, spec := strictyaml.Child(root, "spec")
	_, gates := strictyaml.Child(spec, "featureGates")
	if gates == nil || gates.Kind != yaml.SequenceNode {
		return
	}
	for i, gate := range gates.Content {
		_, name := strictyaml.Child(gate, "name")
		for _, reserved := range ReservedGates() {
			if name != nil && strings.Contains(name.Value, reserved) {
				r.Report("k0s-config", fmt.Sprintf("%s.spec.featureGates[%d].name", path, i), name, "this feature gate is reserved for Plinth", "the trust between hosts needs its default")
			}
		}
	}
}

// checkReserved reports each key below n, whose path is path, that the overlay must not set because of
// owned.
func (r reader) checkReserved(n *yaml.Node, path string, owned ReservedField) {
	parent, last := "", owned.Path
	if i := strings.LastIndexByte(owned.Path, '.'); i >= 0 {
		parent, last = owned.Path[:i], owned.Path[i+1:]
		for name := range strings.SplitSeq(parent, ".") {
			if _, n = strictyaml.Child(n, name); n == nil {
				return
			}
			path += "." + name
		}
	}
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; key.Kind == yaml.ScalarNode && matchesReserved(last, key.Value, strings.HasSuffix(parent, ".extraArgs")) {
			r.Report("k0s-config", strictyaml.JoinPath(path, key.Value), key, "this field is reserved for Plinth", owned.Reason)
		}
	}
}
