// Package kurl converts an Installer of kURL into one of Plinth, and reports what
// became of every key. It is pure: a table of kURL's keys and what follows from it.
package kurl

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/strictyaml"
)

// Verdict is what became of a key of the kURL Installer.
type Verdict string

// The verdicts, in the order in which a report lists them.
const (
	ByHand    Verdict = "by-hand"    // the vendor has to do something
	Unknown   Verdict = "unknown"    // kURL has no such key
	TakenOver Verdict = "taken-over" // the Plinth Installer has it
	BuiltIn   Verdict = "built-in"   // Plinth does it without a setting
	Dropped   Verdict = "dropped"    // Plinth has nothing of the kind
)

// Verdicts returns all verdicts in the order in which a report lists them.
func Verdicts() []Verdict { return []Verdict{ByHand, Unknown, TakenOver, BuiltIn, Dropped} }

// Key is one key of the kURL Installer.
type Key struct {
	Path    string  `json:"path"` // in the kURL Installer, such as "spec.kubernetes.version"
	Verdict Verdict `json:"verdict"`
	Note    string  `json:"note"` // where it went, why it was dropped, or what to do
}

// Conversion is a converted Installer.
type Conversion struct {
	Installer map[string]any `json:"installer"` // the content of YAML
	Keys      []Key          `json:"keys"`      // every key of the kURL Installer, in its order
	YAML      []byte         `json:"-"`         // the Plinth Installer, without comments
}

// Versions holds the newest version that this build of Plinth knows of each
// component, by its key below spec of the Plinth Installer.
type Versions map[string]string

// Lint returns the findings in a Plinth Installer.
type Lint func(installer []byte) []spec.Finding

// maxRounds bounds the number of times that the result is linted: each round removes
// at least one value, and a file has a bounded number of values.
const maxRounds = 1000

// Convert converts the kURL Installer in a file. The result has no errors of lint:
// a value that lint refuses is left out, and its key gets the verdict ByHand with the
// reason. The error has exit code 3 if data is not a kURL Installer.
func Convert(file string, data []byte, known Versions, lint Lint) (Conversion, error) {
	root, findings := readInstaller(file, data)
	var wrong *problem.Problem
	if errors.As(spec.FindingsError("read "+file, findings), &wrong) {
		wrong.Hint = "correct the errors and convert it again with: plinth convert kurl " + problem.QuoteWord(file)
		return Conversion{}, wrong
	}
	c := converter{known: known, rows: rowsByPath()}
	c.visitMapping("", root)
	c.addRequired()
	for range maxRounds {
		text, err := c.render()
		if err != nil {
			return Conversion{}, bugError("write the Installer", err)
		}
		findings := lint(text)
		if !spec.HasErrors(findings) {
			c.addVersionWarnings(findings)
			return c.finish(text)
		}
		if !slices.ContainsFunc(findings, func(f spec.Finding) bool { return f.Severity == spec.Error && c.removeRefused(f, text) }) {
			return Conversion{}, bugError("convert "+file, spec.FindingsError("accept the result", findings))
		}
	}
	return Conversion{}, bugError("convert "+file, fmt.Errorf("lint still finds errors after %d rounds", maxRounds))
}

// addVersionWarnings adds a key to do by hand for each warning of lint about the versions of the result:
// those that this build was tested with can be too old for new clusters.
func (c *converter) addVersionWarnings(findings []spec.Finding) {
	for _, f := range findings {
		if !slices.Contains([]string{"k0s-end-of-life", "kots-kubernetes", "version-untried"}, f.Rule) {
			continue
		}
		path := f.Field
		if i := c.findEntry(path); i >= 0 && c.entries[i].key != nil {
			path = c.entries[i].key.Path
		}
		note := "check " + f.Field + ": " + f.Message
		if f.Hint != "" {
			note += " (" + f.Hint + ")"
		}
		c.addKey(path, ByHand, note)
	}
}

// bugError returns the error of a conversion that fails for any Installer that reaches
// this point. doing names what failed.
func bugError(doing string, cause error) error {
	return problem.New(problem.ExitInternal, doing, cause, "this is a bug; report it with the kURL Installer")
}

// finish returns the conversion whose Installer is text.
func (c *converter) finish(text []byte) (Conversion, error) {
	out := Conversion{YAML: text, Keys: make([]Key, len(c.keys))}
	for i, k := range c.keys {
		out.Keys[i] = *k
	}
	return out, yaml.Unmarshal(text, &out.Installer)
}

// readInstaller returns the only kURL Installer in the documents of a file.
func readInstaller(file string, data []byte) (*yaml.Node, []spec.Finding) {
	r := strictyaml.NewReader(file, spec.Rules())
	data, ok := r.CheckText(data)
	if !ok {
		return nil, r.Findings()
	}
	var found, other *yaml.Node
	for _, root := range r.ParseDocuments(data) {
		switch {
		case !spec.IsKURL(spec.DocumentType(root)):
			other = cmp.Or(other, root)
		case found != nil:
			r.Report("one-document", "", root, "is the second Installer of kURL in this file", "convert one at a time")
		default:
			r.CheckStructure(root, false)
			if _, body := strictyaml.Child(root, "spec"); body != nil && body.Kind != yaml.MappingNode && body.ShortTag() != "!!null" {
				r.Report("wrong-type", "spec", body, "must be a mapping, found "+strictyaml.DescribeNode(body), "")
			}
			found = root
		}
	}
	switch {
	case found != nil:
		return found, r.Findings()
	case len(r.Findings()) > 0:
	case other == nil:
		r.Report("empty-file", "", nil, "the file contains no Installer of kURL: it is empty", "restore it and write the result to another file: a shell empties the file after > before plinth reads it")
	default:
		r.Report("api-version", "apiVersion", other, "the file contains no Installer of kURL (cluster.kurl.sh/v1beta1)", "check one of Plinth with: plinth lint "+file)
	}
	return nil, r.Findings()
}

// converter is a conversion under way.
type converter struct {
	known   Versions
	rows    map[string]row
	keys    []*Key
	entries []entry
}

// entry is a value of the Plinth Installer.
type entry struct {
	key      *Key     // the kURL key from which it comes; nil if Plinth requires it
	path     []string // in the Plinth Installer
	value    *yaml.Node
	listItem bool   // value is one item of the list at path
	fallback string // version to write instead if lint refuses the value; "" for none
}

// visitMapping visits the values of mapping n, whose path is path.
func (c *converter) visitMapping(path string, n *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		c.visitKey(strictyaml.JoinPath(path, n.Content[i].Value), n.Content[i+1])
	}
}

// visitKey records the verdict about the key at path and everything below it.
func (c *converter) visitKey(path string, n *yaml.Node) {
	r, found := c.rows[path]
	switch {
	case found:
		c.applyRow(path, r, n)
	case !c.isGroup(path):
		c.addKey(path, Unknown, c.suggestKey(path))
	case n.Kind == yaml.MappingNode && len(n.Content) > 0:
		c.visitMapping(path, n)
	case n.Kind != yaml.SequenceNode && isEmpty(n):
		c.addKey(path, Dropped, emptyNote)
	default:
		c.addKey(path, ByHand, "must be a mapping, found "+strictyaml.DescribeNode(n))
	}
}

// applyRow records the verdict of row r about value n.
func (c *converter) applyRow(path string, r row, n *yaml.Node) {
	switch {
	case isEmpty(n):
		c.addKey(path, Dropped, emptyNote)
	case r.off && (n.Value == "false" || n.Value == "0"):
		c.addKey(path, Dropped, "is off, which is kURL's default")
	case r.convert != nil:
		r.convert(c, path, r, n)
	default:
		c.addKey(path, r.verdict, r.note)
	}
}

// emptyNote is the note of a key without a value.
const emptyNote = "is empty: kURL ignores it too"

// isEmpty reports whether n has no value: null, "" or a mapping or list without entries.
func isEmpty(n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode {
		return n.Value == "" || n.ShortTag() == "!!null"
	}
	return len(n.Content) == 0
}

// addKey records a verdict and returns it.
func (c *converter) addKey(path string, v Verdict, note string) *Key {
	k := &Key{Path: path, Verdict: v, Note: note}
	c.keys = append(c.keys, k)
	return k
}

// isGroup reports whether kURL has keys below path.
func (c *converter) isGroup(path string) bool {
	for known := range c.rows {
		if strings.HasPrefix(known, path+".") {
			return true
		}
	}
	return false
}

// suggestKey returns a note with the key of kURL that is nearest to the one at path.
func (c *converter) suggestKey(path string) string {
	parent, last := "", path
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		parent, last = path[:i+1], path[i+1:]
	}
	var siblings []string
	for known := range c.rows {
		if rest, ok := strings.CutPrefix(known, parent); ok {
			name, _, _ := strings.Cut(rest, ".")
			siblings = append(siblings, name)
		}
	}
	slices.Sort(siblings)
	const note = "kURL has no such key and ignores it"
	if near := problem.Nearest(last, slices.Compact(siblings)); near != "" && problem.EditDistance(last, near) <= 3 {
		return note + "; did you mean " + parent + near + "?"
	}
	return note
}

// addEntry adds a value to the Plinth Installer.
func (c *converter) addEntry(e entry, to string) {
	e.path = strings.Split(to, ".")
	c.entries = append(c.entries, e)
}

// hasEntry reports whether the Plinth Installer has a value at path or below it.
func (c *converter) hasEntry(path string) bool {
	want := strings.Split(path, ".")
	return slices.ContainsFunc(c.entries, func(e entry) bool {
		return len(e.path) >= len(want) && slices.Equal(e.path[:len(want)], want)
	})
}

// addRequired adds what a Plinth Installer needs and the kURL Installer does not name.
func (c *converter) addRequired() {
	c.addEntry(entry{value: textNode(spec.APIVersion)}, "apiVersion")
	c.addEntry(entry{value: textNode(spec.Kind)}, "kind")
	if !c.hasEntry("metadata.name") {
		c.addEntry(entry{value: textNode(c.productName())}, "metadata.name")
	}
	if !c.hasEntry("spec.k0s.version") {
		c.addEntry(entry{value: textNode(c.known["k0s"])}, "spec.k0s.version")
	}
	if c.hasEntry("spec.kotsadm") && !c.hasEntry("spec.kotsadm.version") {
		c.addEntry(entry{value: textNode(c.known["kotsadm"])}, "spec.kotsadm.version")
	}
	if (c.hasEntry("spec.kotsadm") || c.hasEntry("spec.registry")) && !c.hasEntry("spec.localPathStorage") && c.known["localPathStorage"] != "" {
		c.addEntry(entry{value: textNode(c.known["localPathStorage"])}, "spec.localPathStorage.version")
		c.appendNote([]string{"spec.kotsadm.version", "spec.registry.version"}, "; spec.localPathStorage is added, because its data is stored on a volume")
	}
}

// appendNote appends text to the note of the first key of paths that there is.
func (c *converter) appendNote(paths []string, text string) {
	for _, k := range c.keys {
		if slices.Contains(paths, k.Path) {
			k.Note += text
			return
		}
	}
}

// productName returns the slug of the application, or a placeholder.
func (c *converter) productName() string {
	for _, e := range c.entries {
		if slices.Equal(e.path, []string{"spec", "kotsadm", "applicationSlug"}) {
			if wrong, _ := spec.CheckValue("dns-label", e.value.Value); wrong == "" {
				return e.value.Value
			}
		}
	}
	return "my-app"
}

// removeRefused removes the value that an error of lint is about, and reports whether
// there was one. text is the linted Installer.
func (c *converter) removeRefused(f spec.Finding, text []byte) bool {
	i := c.findEntry(f.Field)
	if i < 0 {
		i = c.findEntry(pathAtLine(text, f.Line))
	}
	if i < 0 {
		return false
	}
	e := c.entries[i]
	if e.fallback != "" {
		e.key.Note = strings.Replace(e.key.Note, "kept "+e.value.Value, fmt.Sprintf("wrote %s, the version that this build of Plinth knows, in place of %s", e.fallback, e.value.Value), 1)
		c.entries[i].value, c.entries[i].fallback = textNode(e.fallback), ""
		return true
	}
	if e.key == nil {
		return false
	}
	c.entries = slices.DeleteFunc(c.entries, func(other entry) bool { return other.key == e.key })
	e.key.Verdict, e.key.Note = ByHand, "was left out of "+joinPath(e.path)+": "+f.Message
	if f.Hint != "" {
		e.key.Note += " (" + f.Hint + ")"
	}
	return true
}

// findEntry returns the index of the entry that wrote the value at path or above it,
// -1 if there is none.
func (c *converter) findEntry(path string) int {
	count := map[string]int{}
	for i, e := range c.entries {
		at := joinPath(e.path)
		if e.listItem {
			count[at]++
			at += "[" + strconv.Itoa(count[at]-1) + "]"
		}
		if rest, ok := strings.CutPrefix(path, at); ok && path != "" && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return i
		}
	}
	// A missing or wrong version makes its whole component unusable.
	return slices.IndexFunc(c.entries, func(e entry) bool {
		return path != "" && e.key != nil && joinPath(e.path) == path+".version"
	})
}

// joinPath returns a path as findings write it.
func joinPath(path []string) string { return strings.Join(path, ".") }
