// Package strictyaml decodes YAML manifests strictly and reports all findings with
// their places. It rejects everything that two YAML parsers could read differently,
// such as anchors and duplicate keys.
package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity is how serious a finding is: an error stops the command.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // stops the command with exit code 3
	Warning Severity = "warning" // only shown
)

// Finding is an error or a warning about one place of a file. Message and Hint do
// not contain secrets.
type Finding struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`   // from 1
	Column   int      `json:"column"` // from 1, in characters
	Field    string   `json:"field"`  // path such as spec.kotsadm.version; "" for the whole file
	Rule     string   `json:"rule"`   // ID of a Rule
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
}

// lineBreaks replaces line breaks, which the name of a file can contain.
var lineBreaks = strings.NewReplacer("\n", `\n`, "\r", `\r`)

// String returns the finding on one line: "file:line:col: error [rule] field: message (hint)".
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: %s [%s] ", f.File, f.Line, f.Column, f.Severity, f.Rule)
	if f.Field != "" {
		b.WriteString(f.Field + ": ")
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString(" (" + f.Hint + ")")
	}
	return lineBreaks.Replace(b.String())
}

// HasErrors reports whether any finding is an error.
func HasErrors(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// SortFindings sorts findings in place by file, place, rule and field, and returns
// them.
func SortFindings(findings []Finding) []Finding {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Field, b.Field))
	})
	return findings
}

// Rule is a kind of finding.
type Rule struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`
	Repeats  bool     `json:"-"` // several findings at one place are all shown, not only the first
}

// Rules returns the rules of this package.
func Rules() []Rule {
	fail := func(id, summary string) Rule { return Rule{ID: id, Severity: Error, Summary: summary} }
	return []Rule{
		fail("file-too-large", "A manifest has at most 1 MiB."),
		fail("not-text", "A manifest is UTF-8 text without control characters."),
		fail("empty-file", "A manifest contains something other than comments."),
		fail("yaml-syntax", "A manifest is YAML."),
		fail("no-anchors", "An Installer does not use anchors, aliases and merge keys. In an Application they are a warning: KOTS resolves them."),
		fail("too-deep", "A manifest nests at most 40 levels. In an Application, a warning."),
		fail("too-many", "Only the first 200 findings in a file are reported."),
		fail("duplicate-key", "A key occurs only once in its mapping; YAML parsers differ on which one they use. In an Application, a warning: KOTS uses the last one."),
		fail("unknown-key", "Every key of an Installer is known; the finding suggests the nearest known key."),
		fail("wrong-type", "Every value has the type of its key; text that looks like a number must be quoted. In an Application, a warning: KOTS cannot install it."),
		fail("required", "apiVersion, kind, metadata.name, spec.k0s.version and the version of every add-on are present and not empty."),
	}
}
