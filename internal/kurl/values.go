package kurl

import (
	"cmp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// convertFunc records the verdict of row r about value n at path, and writes what it
// becomes.
type convertFunc func(c *converter, path string, r row, n *yaml.Node)

// convertText writes a text as it is.
func convertText(c *converter, path string, r row, n *yaml.Node) {
	if n.Kind != yaml.ScalarNode {
		c.addKey(path, ByHand, "must be text, found "+strictyaml.DescribeNode(n))
		return
	}
	k := c.addKey(path, TakenOver, joinNotes("is now "+r.to, r.note))
	c.addEntry(entry{key: k, value: textNode(n.Value)}, r.to)
}

// convertNumber writes a whole number.
func convertNumber(c *converter, path string, r row, n *yaml.Node) {
	i, err := strconv.Atoi(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		c.addKey(path, ByHand, "must be a whole number, found "+strictyaml.DescribeNode(n))
		return
	}
	k := c.addKey(path, TakenOver, joinNotes("is now "+r.to, r.note))
	c.addEntry(entry{key: k, value: &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(i)}}, r.to)
}

// convertName writes the name of the Installer, if it is one for Plinth too.
func convertName(c *converter, path string, r row, n *yaml.Node) {
	if wrong, hint := spec.CheckValue("dns-label", n.Value); wrong != "" || n.Kind != yaml.ScalarNode {
		c.addKey(path, ByHand, strings.TrimSpace("is not a DNS label: write the product's slug to metadata.name; "+hint))
		return
	}
	convertText(c, path, r, n)
}

// convertKubernetes writes a version of k0s that this build knows: the newest of the
// same Kubernetes minor, else the one that is tested with the rest.
func convertKubernetes(c *converter, path string, r row, n *yaml.Node) {
	to := c.known["k0s"]
	if minor := kubernetesMinor(n.Value); minor != spec.KubernetesMinor(to) {
		to = cmp.Or(spec.Versions().NewestK0s(minor), to)
	}
	kubernetes, _, _ := strings.Cut(strings.TrimPrefix(to, "v"), "+")
	note := "wrote " + to + " to " + r.to + ", the version that this build of Plinth knows: Kubernetes " + kubernetes
	if v := strings.TrimPrefix(n.Value, "v"); v != kubernetes {
		note += "; " + describeVersion(n.Value)
	}
	k := c.addKey(path, TakenOver, note)
	c.addEntry(entry{key: k, value: textNode(to)}, r.to)
}

// kubernetesMinor returns the minor of a version of Kubernetes 1 as kURL takes it, such
// as 1.35.2, v1.35.2 or 1.35.x, or 0 for other words.
func kubernetesMinor(version string) int {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	if len(parts) < 2 || parts[0] != "1" {
		return 0
	}
	minor, _ := strconv.Atoi(parts[1])
	return minor
}

// convertVersion writes the version of an add-on: an exact one if lint accepts it,
// else the one that this build knows.
func convertVersion(c *converter, path string, r row, n *yaml.Node) {
	component := strings.Split(r.to, ".")[1]
	known := c.known[component]
	switch wrong, _ := spec.CheckValue("version-exact/addon", n.Value); {
	case n.Kind != yaml.ScalarNode:
		c.addKey(path, ByHand, "must be text, found "+strictyaml.DescribeNode(n))
	case known == "":
		c.addKey(path, ByHand, "this build of Plinth has no spec."+component+"; "+r.note)
	case wrong != "":
		k := c.addKey(path, TakenOver, joinNotes("wrote "+known+" to "+r.to+", the version that this build of Plinth knows, because "+describeVersion(n.Value), r.note))
		c.addEntry(entry{key: k, value: textNode(known)}, r.to)
	default:
		k := c.addKey(path, TakenOver, joinNotes("is now "+r.to+": kept "+n.Value, r.note))
		c.addEntry(entry{key: k, value: textNode(n.Value), fallback: known}, r.to)
	}
}

// describeVersion returns what is wrong with a version of kURL, for a sentence.
func describeVersion(version string) string {
	if wrong, _ := spec.CheckValue("version-exact/addon", strings.TrimPrefix(version, "v")); wrong != "" {
		return strictyaml.QuoteValue(version) + " is not an exact version"
	}
	return "the kURL Installer has " + strings.TrimPrefix(version, "v")
}

// convertStorage writes the only storage that Plinth has.
func convertStorage(c *converter, path string, r row, _ *yaml.Node) {
	known := c.known["localPathStorage"]
	if known == "" {
		c.addKey(path, ByHand, "this build of Plinth has no storage; "+r.note)
		return
	}
	k := c.addKey(path, r.verdict, "wrote "+known+" to "+r.to+"; "+r.note)
	if !c.hasEntry(r.to) {
		c.addEntry(entry{key: k, value: textNode(known)}, r.to)
	}
}

// convertPortRange writes the range of node ports that Kubernetes has by default.
func convertPortRange(c *converter, path string, r row, _ *yaml.Node) {
	k := c.addKey(path, TakenOver, joinNotes("is now "+r.to, r.note))
	c.addEntry(entry{key: k, value: textNode("30000-32767")}, r.to)
}

// convertProxy writes one proxy for both protocols. The note does not contain the
// value, which can contain a password.
func convertProxy(c *converter, path string, r row, n *yaml.Node) {
	k := c.addKey(path, TakenOver, "is now spec.proxy.httpProxy and spec.proxy.httpsProxy")
	for _, name := range []string{"httpProxy", "httpsProxy"} {
		c.addEntry(entry{key: k, value: textNode(n.Value)}, r.to+"."+name)
	}
}

// convertList writes each item of a list as it is.
func convertList(c *converter, path string, r row, n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		c.addKey(path, ByHand, "must be a list, found "+strictyaml.DescribeNode(n))
		return
	}
	for i, item := range n.Content {
		at := path + "[" + strconv.Itoa(i) + "]"
		if hasTemplate(item) {
			c.addKey(at, ByHand, "has a template of kURL ({{kurl …}}), which Plinth does not read: write the value itself to "+r.to)
			continue
		}
		k := c.addKey(at, TakenOver, joinNotes("is now "+r.to, r.note))
		c.addEntry(entry{key: k, value: item, listItem: true}, r.to)
	}
}

// hasTemplate reports whether a text at or below n has a template of kURL.
func hasTemplate(n *yaml.Node) bool {
	if strings.Contains(n.Value, "{{kurl") {
		return true
	}
	for _, child := range n.Content {
		if hasTemplate(child) {
			return true
		}
	}
	return false
}

// joinNotes joins the notes that are not empty.
func joinNotes(a, b string) string {
	if b == "" {
		return a
	}
	return a + "; " + b
}

// convertEncryption records that the network of pods is not encrypted.
func convertEncryption(c *converter, path string, _ row, n *yaml.Node) {
	if n.Value == "true" {
		c.addKey(path, BuiltIn, "kube-router does not encrypt the traffic between nodes")
		return
	}
	c.addKey(path, ByHand, "kube-router does not encrypt the traffic between nodes: encrypt below it, or in the application")
}
