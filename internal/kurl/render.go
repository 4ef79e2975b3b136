package kurl

import (
	"bytes"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

// keyOrder lists the keys of a Plinth Installer in the order of the documented
// example.
var keyOrder = []string{"apiVersion", "kind", "metadata", "spec",
	"k0s", "network", "kotsadm", "localPathStorage", "registry", "velero", "hostPreflights", "proxy",
	"version", "podCIDR", "serviceCIDR", "nodePortRange", "applicationSlug", "namespace", "uiBindPort", "hostname",
	"collectors", "analyzers", "httpProxy", "httpsProxy", "noProxy"}

// render returns the Plinth Installer as YAML.
func (c *converter) render() ([]byte, error) {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, e := range c.entries {
		at := root
		for _, name := range e.path[:len(e.path)-1] {
			at = childOrNew(at, name, yaml.MappingNode)
		}
		last := e.path[len(e.path)-1]
		if e.listItem {
			list := childOrNew(at, last, yaml.SequenceNode)
			list.Content = append(list.Content, e.value)
			continue
		}
		at.Content = append(at.Content, textNode(last), e.value)
	}
	sortKeys(root, 3)
	var text bytes.Buffer
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return text.Bytes(), enc.Close()
}

// childOrNew returns the value at key name of mapping n, which it adds if there is
// none.
func childOrNew(n *yaml.Node, name string, kind yaml.Kind) *yaml.Node {
	if _, value := strictyaml.Child(n, name); value != nil {
		return value
	}
	value := &yaml.Node{Kind: kind}
	n.Content = append(n.Content, textNode(name), value)
	return value
}

// sortKeys sorts the keys of mapping n and of depth-1 levels below it by keyOrder.
func sortKeys(n *yaml.Node, depth int) {
	if n.Kind != yaml.MappingNode || depth == 0 {
		return
	}
	pairs := slices.Collect(slices.Chunk(n.Content, 2))
	slices.SortStableFunc(pairs, func(a, b []*yaml.Node) int {
		return slices.Index(keyOrder, a[0].Value) - slices.Index(keyOrder, b[0].Value)
	})
	n.Content = slices.Concat(pairs...)
	for _, pair := range pairs {
		sortKeys(pair[1], depth-1)
	}
}

// textNode returns a scalar with a text, which is quoted if it would be read as
// something else.
func textNode(text string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(text)
	return n
}

// pathAtLine returns the path of the value in a line of YAML text, "" if there is
// none.
func pathAtLine(text []byte, line int) string {
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) != nil || len(doc.Content) == 0 {
		return ""
	}
	return findLine("", doc.Content[0], line)
}

// findLine returns the path of the innermost value below n, whose path is path, that
// starts in line.
func findLine(path string, n *yaml.Node, line int) string {
	found := ""
	if n.Line == line && n.Kind == yaml.ScalarNode {
		found = path
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content) && found == ""; i += 2 {
			found = findLine(strictyaml.JoinPath(path, n.Content[i].Value), n.Content[i+1], line)
		}
	case yaml.SequenceNode:
		for i := 0; i < len(n.Content) && found == ""; i++ {
			found = findLine(path+"["+strconv.Itoa(i)+"]", n.Content[i], line)
		}
	}
	return found
}
