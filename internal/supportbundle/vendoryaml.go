package supportbundle

import (
	"bytes"
	"errors"
	"io"
	"path"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// maxYAML is the size in bytes of the largest file that is read as YAML for the paths of a vendor's redactors.
const maxYAML = 4 << 20

// maskPath returns v, which was decoded from JSON, with the value at a path replaced by a mark. An element of a path is a
// key, the index in a list, or * for all.
func maskPath(v any, p []string, mark string) any {
	if len(p) == 0 {
		return mark
	}
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			if key == p[0] || p[0] == "*" {
				v[key] = maskPath(v[key], p[1:], mark)
			}
		}
	case []any:
		for i := range v {
			if strconv.Itoa(i) == p[0] || p[0] == "*" {
				v[i] = maskPath(v[i], p[1:], mark)
			}
		}
	}
	return v
}

// redactYAML returns a file with the values at the rules' paths replaced, if it is YAML and has such values: its name ends
// in .yaml or .yml, or a rule with a path names it. All documents of it are searched. If that takes too long, nothing of the file
// is returned.
func (v *vendorRules) redactYAML(name string, content []byte) []byte {
	if v == nil || len(content) > maxYAML {
		return content
	}
	isYAML := path.Ext(name) == ".yaml" || path.Ext(name) == ".yml"
	var use []VendorRule
	for _, r := range v.rules {
		if len(r.paths) > 0 && (isYAML || r.files != nil) && r.matches(name) {
			use = append(use, r)
		}
	}
	if use == nil {
		return content
	}
	begun := time.Now()
	defer v.measure(begun)
	documents, err := readYAML(content)
	if err != nil {
		return content // it is not YAML
	}
	masked := false
	for _, doc := range documents {
		for _, r := range use {
			for _, p := range r.paths {
				if v.late(begun) {
					return []byte(mark(ruleVendorTime) + "\n")
				}
				masked = maskNode(doc, p, r.mark) || masked
			}
		}
	}
	if !masked {
		return content
	}
	clean, err := writeYAML(documents)
	if err != nil { // what was masked must not stay
		return []byte(mark(ruleVendorFailed) + "\n")
	}
	return clean
}

func readYAML(content []byte) (documents []*yaml.Node, err error) {
	for d := yaml.NewDecoder(bytes.NewReader(content)); ; {
		doc := &yaml.Node{}
		if err := d.Decode(doc); errors.Is(err, io.EOF) {
			return documents, nil
		} else if err != nil {
			return nil, err
		}
		documents = append(documents, doc)
	}
}

func writeYAML(documents []*yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	for _, doc := range documents {
		if err := e.Encode(doc); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), e.Close()
}

// maskNode replaces the value at a path below n by a mark, and reports whether there is one. An alias on the way is
// replaced itself: to follow all of them could take exponential time.
func maskNode(n *yaml.Node, p []string, mark string) (masked bool) {
	if n.Kind == yaml.DocumentNode {
		return len(n.Content) > 0 && maskNode(n.Content[0], p, mark)
	}
	if len(p) == 0 || n.Kind == yaml.AliasNode {
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: mark, HeadComment: n.HeadComment, Anchor: n.Anchor}
		return true
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == p[0] || p[0] == "*" {
				masked = maskNode(n.Content[i+1], p[1:], mark) || masked
			}
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if strconv.Itoa(i) == p[0] || p[0] == "*" {
				masked = maskNode(item, p[1:], mark) || masked
			}
		}
	}
	return masked
}
