// Package supportspec reads specs of troubleshoot.sh for support bundles: what a vendor wants to have collected, and what is
// to be removed from it. It knows which of its collectors Plinth carries out. It is pure.
package supportspec

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/strictyaml"
	"github.com/plinthdev/plinth/internal/supportbundle"
)

// Keys with a spec in the data of a Secret or ConfigMap (troubleshoot.sh v0.133.0, pkg/constants), and that of KOTS for
// redactors (KOTS 1.131.2, pkg/redact).
const (
	BundleKey       = "support-bundle-spec"
	RedactorKey     = "redactor-spec"
	KotsRedactorKey = "redact-spec"
)

// Keys returns all keys with a spec.
func Keys() []string { return []string{BundleKey, RedactorKey, KotsRedactorKey} }

// Specs is what one or more specs request.
type Specs struct {
	Collectors     []Collector // in the cluster
	HostCollectors []Collector
	Rules          []supportbundle.VendorRule
	Bundles        []any    // the documents of kind SupportBundle, as JSON has them
	URIs           []string // where newer versions of the specs are; nothing is fetched from there
}

// Add adds what more requests.
func (s *Specs) Add(more Specs) {
	s.Collectors, s.HostCollectors = append(s.Collectors, more.Collectors...), append(s.HostCollectors, more.HostCollectors...)
	s.Rules, s.Bundles, s.URIs = append(s.Rules, more.Rules...), append(s.Bundles, more.Bundles...), append(s.URIs, more.URIs...)
}

// isEmpty reports whether there was no document for a support bundle.
func (s Specs) isEmpty() bool {
	return len(s.Bundles)+len(s.Rules)+len(s.Collectors)+len(s.HostCollectors) == 0
}

// Parse returns what the documents in a file request: of the kinds SupportBundle, Redactor, Collector and HostCollector of
// troubleshoot.sh, and those in Secrets and ConfigMaps. Documents for other programs are ignored. What cannot be used is a
// finding; the rest is returned.
func Parse(name string, data []byte) (Specs, []strictyaml.Finding) {
	s, seen, findings := parse(name, data)
	if s.isEmpty() && !seen && len(findings) == 0 {
		r := strictyaml.NewReader(name, strictyaml.Rules())
		r.Report("required", "", nil, "has no spec for a support bundle", "name a file with a SupportBundle or a Redactor of troubleshoot.sh")
		findings = r.Findings()
	}
	return s, findings
}

// parse is Parse; seen reports whether there was a document for a support bundle.
func parse(name string, data []byte) (all Specs, seen bool, findings []strictyaml.Finding) {
	r := strictyaml.NewReader(name, strictyaml.Rules())
	data, ok := r.CheckText(data)
	if !ok {
		return all, false, r.Findings()
	}
	reportTemplates(r, data)
	roots := r.ParseDocuments(data)
	findings = r.Findings()
	for i, root := range roots {
		d := document{Reader: strictyaml.NewReader(name, strictyaml.Rules()), name: name, root: resolveAliases(root)}
		if len(roots) > 1 {
			d.prefix = fmt.Sprintf("document %d: ", i+1)
		}
		s, found, more := d.parse()
		all.Add(s)
		seen = seen || found
		findings = append(findings, more...)
	}
	return all, seen, findings
}

// reportTemplates reports the first template of KOTS: only the console renders them.
func reportTemplates(r *strictyaml.Reader, data []byte) {
	number := 0
	for line := range bytes.Lines(data) {
		number++
		if at := bytes.Index(line, []byte("repl{{")); at >= 0 || bytes.Contains(line, []byte("{{repl")) {
			r.Report("template", "", &yaml.Node{Line: number, Column: max(at, bytes.Index(line, []byte("{{repl"))) + 1}, "has a template of KOTS",
				"take the rendered spec: sudo plinth kubectl get secrets,configmaps -A -l troubleshoot.sh/kind=support-bundle")
			return
		}
	}
}

// resolveAliases returns root, or a copy without anchors and aliases if it has some; the copy has no line numbers.
func resolveAliases(root *yaml.Node) *yaml.Node {
	if !hasAnchor(root) {
		return root
	}
	var value any
	var copied yaml.Node
	if root.Decode(&value) != nil || copied.Encode(value) != nil { // the library limits how much aliases expand
		return root
	}
	return &copied
}

func hasAnchor(n *yaml.Node) bool {
	return n.Anchor != "" || n.Kind == yaml.AliasNode || slices.ContainsFunc(n.Content, hasAnchor)
}

// document is one document of a file.
type document struct {
	*strictyaml.Reader
	name   string // of the file
	prefix string // of fields in findings
	root   *yaml.Node
}

// text returns the text at a key of the document; "" if there is none.
func (d document) text(key string) string {
	if _, n := strictyaml.Child(d.root, key); n != nil && n.Kind == yaml.ScalarNode {
		return n.Value
	}
	return ""
}

// parse returns what the document requests; seen is false if it is not for a support bundle.
func (d document) parse() (s Specs, seen bool, findings []strictyaml.Finding) {
	kind, group := d.text("kind"), d.text("apiVersion")
	group, _, _ = strings.Cut(group, "/")
	switch isSpec := group == "troubleshoot.sh" || group == "troubleshoot.replicated.com"; {
	case d.root.Kind != yaml.MappingNode:
		d.ReportWrongType("", d.root, "a mapping")
	case group == "v1" && (kind == "Secret" || kind == "ConfigMap"):
		return d.parseObject(kind)
	case isSpec && kind == "Redactor":
		seen = true
		s = d.parseRedactors()
	case isSpec && (kind == "SupportBundle" || kind == "Collector" || kind == "HostCollector"):
		seen = true
		s = d.parseCollectors(kind)
	case isSpec && !slices.Contains(otherKinds, kind):
		d.Report("unknown-key", "kind", d.root, "is not a kind of troubleshoot.sh: "+strictyaml.QuoteValue(kind), "use SupportBundle or Redactor")
	}
	findings = d.Findings()
	for i := range findings {
		findings[i].Field = strings.TrimSuffix(d.prefix+findings[i].Field, ": ")
	}
	return s, seen, findings
}

// otherKinds are kinds of troubleshoot.sh that a support bundle does not use.
var otherKinds = []string{"Analyzer", "HostAnalyzer", "Preflight", "HostPreflight", "RemoteCollector"}

// parseObject returns what the specs in a Secret or ConfigMap request.
func (d document) parseObject(kind string) (all Specs, seen bool, findings []strictyaml.Finding) {
	for _, field := range []string{"data", "stringData"} {
		_, entries := strictyaml.Child(d.root, field)
		if entries == nil || !d.checkType(d.prefix+field, entries, mapping) {
			continue
		}
		for _, key := range Keys() {
			_, n := strictyaml.Child(entries, key)
			at := d.prefix + strictyaml.JoinPath(field, key)
			if n == nil || !d.checkType(at, n, text) || isNull(n) {
				continue
			}
			content := n.Value
			if kind == "Secret" && field == "data" {
				raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(content), ""))
				if err != nil {
					d.Report("wrong-type", at, n, "is not base64", "write it as text in stringData")
					continue
				}
				content = string(raw)
			}
			s, found, more := parse(d.name, []byte(content))
			all.Add(s)
			seen = seen || found
			for _, f := range more { // its lines are those of the text
				f.Field, f.Line, f.Column = strings.TrimSuffix(at+": "+f.Field, ": "), n.Line+f.Line, 1
				findings = append(findings, f)
			}
		}
	}
	return all, seen, append(findings, d.Findings()...)
}
