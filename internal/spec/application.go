package spec

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/release"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// Application holds the fields of a kots.io/v1beta1 Application that Plinth reads.
// Only KOTS reads the other fields.
type Application struct {
	File              string `json:"file"` // name of the file that holds it
	Name              string `json:"name,omitempty"`
	Title             string `json:"title,omitempty"`
	MinKotsVersion    string `json:"minKotsVersion,omitempty"`    // as KOTS decodes it
	TargetKotsVersion string `json:"targetKotsVersion,omitempty"` // as KOTS decodes it
}

// File is the name of a file, for findings, and its content.
type File struct {
	Name string
	Data []byte
}

// ParseApplications returns all Applications in a YAML file of one or more documents:
// KOTS can choose any of them. It returns none if and only if a finding is an error.
func ParseApplications(file string, data []byte) ([]*Application, []Finding) {
	apps, findings := readApplications(file, data)
	if HasErrors(findings) {
		return nil, findings
	}
	return apps, findings
}

// readApplications is like ParseApplications but also returns Applications with errors,
// as far as they could be read.
func readApplications(file string, data []byte) (apps []*Application, findings []Finding) {
	r := newApplicationReader(file)
	data, ok := r.CheckText(data)
	if !ok {
		return nil, r.Findings()
	}
	for _, doc := range release.Split(data) {
		r.WithLineOffset(doc.Line)
		if app := r.readDocument(doc.Text); app != nil {
			app.File = file
			apps = append(apps, app)
		}
	}
	r.WithLineOffset(0)
	if len(apps) == 0 && len(r.Findings()) == 0 {
		r.reportMissing(data)
	}
	return apps, r.Findings()
}

// newApplicationReader returns a reader that only warns of what KOTS decodes in its own
// way.
func newApplicationReader(file string) reader {
	rules := Rules()
	for i, rule := range rules {
		if slices.Contains([]string{"no-anchors", "duplicate-key", "too-deep", "too-many", "wrong-type"}, rule.ID) {
			rules[i].Severity = Warning
		}
	}
	return reader{strictyaml.NewReader(file, rules)}
}

// reportMissing reports why data contains no Application.
func (r reader) reportMissing(data []byte) {
	roots := r.ParseDocuments(data)
	switch {
	case len(r.Findings()) > 0:
	case len(roots) == 0:
		r.Report("app-missing", "", nil, "does not contain a "+release.APIVersion+" "+release.Kind, "the file is empty")
	default:
		apiVersion, kind := DocumentType(roots[0])
		r.Report("app-missing", "", roots[0], "does not contain a "+release.APIVersion+" "+release.Kind,
			"found "+strictyaml.QuoteValue(apiVersion+" "+kind)+"; only "+release.APIVersion+" has minKotsVersion and targetKotsVersion")
	}
}

// likeApplication matches a document that its author takes for an Application.
var likeApplication = regexp.MustCompile(`(?m)^["']?kind["']?:[ \t]*["']?Application\b`)

// readDocument returns the Application in a document, nil if it is none. A document that
// is not YAML is ignored, such as a template, unless it looks like an Application.
func (r reader) readDocument(text []byte) *Application {
	if !release.MentionsApplication(text) {
		return nil
	}
	var doc yaml.Node
	syntax := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc) // KOTS does not read what follows the first document either
	if !release.IsApplication(text) {
		if syntax != nil && likeApplication.Match(text) && !r.reportTemplate(text) {
			r.ReportSyntaxError(text, syntax)
		}
		return nil
	}
	values, err := release.DecodeApplication(text)
	if err != nil {
		if !r.reportTemplate(text) {
			r.Report("yaml-syntax", "", nil, "KOTS cannot decode this Application: "+strings.TrimPrefix(err.Error(), "yaml: "), "")
		}
		return nil
	}
	root := &yaml.Node{Line: 1, Column: 1}
	if syntax == nil {
		root = doc.Content[0]
		r.CheckStructure(root, false)
	}
	return r.checkApplication(root, values)
}

// DocumentType returns the apiVersion and kind of the YAML document root, "" for one
// that it does not have. Of repeated keys the last one counts, as for KOTS.
func DocumentType(root *yaml.Node) (apiVersion, kind string) {
	if v := lastChild(root, "apiVersion"); v != nil {
		apiVersion = v.Value
	}
	if k := lastChild(root, "kind"); k != nil {
		kind = k.Value
	}
	return apiVersion, kind
}

// lastChild returns the value of the last key called name of mapping n, the one that KOTS
// uses; nil if there is none.
func lastChild(n *yaml.Node, name string) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := len(n.Content) - 2; i >= 0; i -= 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// findValue returns the value at a path of two keys, or the nearest node above it: a merge key
// can set a value that has no key.
func findValue(root *yaml.Node, path string) *yaml.Node {
	at := root
	for name := range strings.SplitSeq(path, ".") {
		below := lastChild(at, name)
		if below == nil {
			break
		}
		at = below
	}
	return at
}

// checkApplication returns the Application with the values of KOTS, and reports what is
// wrong with them at their places below root.
func (r reader) checkApplication(root *yaml.Node, values release.Application) *Application {
	app := &Application{Name: values.Name, Title: values.Title,
		MinKotsVersion: values.MinKotsVersion, TargetKotsVersion: values.TargetKotsVersion}
	for _, wrong := range values.WrongTypes {
		rule, at := "wrong-type", findValue(root, wrong.Path)
		if wrong.Path == compat.FieldMin || wrong.Path == compat.FieldTarget || wrong.Path == "spec" {
			rule = "app-version" // the bounds are unknown
		}
		hint := ""
		if wrong.Want == "text" && at.Kind == yaml.ScalarNode {
			hint = "quote it: " + strictyaml.QuoteValue(at.Value)
		}
		r.Report(rule, wrong.Path, at, "must be "+wrong.Want+", found "+wrong.Found+"; KOTS cannot decode the Application", hint)
	}
	low := r.checkBound(root, compat.FieldMin, values.MinKotsVersion)
	high := r.checkBound(root, compat.FieldTarget, values.TargetKotsVersion)
	if low != nil && high != nil && low.Compare(*high) > 0 {
		r.Report("app-bounds", compat.FieldMin, findValue(root, compat.FieldMin),
			strictyaml.QuoteValue(app.MinKotsVersion)+" is higher than targetKotsVersion "+strictyaml.QuoteValue(app.TargetKotsVersion), "no version of KOTS satisfies both")
	}
	return app
}

// checkBound returns a version bound as KOTS parses it, nil if it is absent or not a
// version.
func (r reader) checkBound(root *yaml.Node, path, written string) *compat.Version {
	if written == "" {
		return nil
	}
	v, err := compat.ParseVersion(written)
	if err == nil {
		return &v
	}
	message, hint := strictyaml.QuoteValue(written)+" is not a version: "+err.Error(), "KOTS would ignore it; use a version such as 1.131.2"
	if strings.Contains(written, "{{") {
		message, hint = strictyaml.QuoteValue(written)+" is a template", "KOTS compares versions before it renders templates, and would ignore it; use a version such as 1.131.2"
	}
	r.Report("app-version", path, findValue(root, path), message, hint)
	return nil
}

// templates matches the beginning of a template of KOTS or Helm. The first form is no
// YAML outside of quotes; the second can be.
var templates, plainTemplates = regexp.MustCompile(`(?:^|[^l{])(\{\{)`), regexp.MustCompile(`(repl\{\{)`)

// reportTemplate reports the first template in a document that cannot be decoded, which is
// then nearly always the cause, and whether there is one.
func (r reader) reportTemplate(text []byte) bool {
	for _, form := range []*regexp.Regexp{templates, plainTemplates} {
		line := 0
		for code := range bytes.Lines(text) {
			line++
			code, _, _ := bytes.Cut(code, []byte(" #"))
			match := form.FindSubmatchIndex(code)
			if match == nil || bytes.HasPrefix(bytes.TrimSpace(code), []byte("#")) || bytes.ContainsAny(code[:match[2]], `"'`) {
				continue
			}
			before, template := code[:match[2]], bytes.TrimSpace(code[match[2]:])
			r.Report("app-template", "", &yaml.Node{Line: line, Column: utf8.RuneCount(before) + 1}, "contains the template "+strictyaml.QuoteValue(string(template)),
				"KOTS decodes the Application before it renders templates: put the value in quotes, and remove lines that are only a template")
			return true
		}
	}
	return false
}
