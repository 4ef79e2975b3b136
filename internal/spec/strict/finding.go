// Package strict owns the strict reading of one YAML manifest: text, syntax,
// anchors, repeated and unknown keys, types, required keys and defaults, all that is
// wrong at once, each with its place. It knows nothing of what the manifest means,
// and refuses everything that two YAML readers could understand differently.
package strict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a finding stops Plinth.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // nothing goes on, exit 3
	Warning Severity = "warning" // shown, no more
)

// Finding is one thing that is wrong in a file. Message and Hint hold no secrets.
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

// String is the finding on one line: "file:line:col: error [rule] field: message (hint)".
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
	return b.String()
}

// HasErrors tells whether any finding is an error.
func HasErrors(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// Sort orders findings by file, then place; those of one place stay in a fixed order.
func Sort(findings []Finding) []Finding {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Field, b.Field))
	})
	return findings
}

// Rule is one kind of finding.
type Rule struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`
}

// Rules lists the rules of this package.
func Rules() []Rule {
	fail := func(id, summary string) Rule { return Rule{ID: id, Severity: Error, Summary: summary} }
	return []Rule{
		fail("file-too-large", "A manifest has at most 1 MiB."),
		fail("not-text", "A manifest is UTF-8 text without control characters."),
		fail("empty-file", "A manifest holds something besides comments."),
		fail("yaml-syntax", "A manifest is YAML."),
		fail("no-anchors", "Anchors and aliases are not read: what is written is what counts."),
		fail("too-deep", "A manifest nests at most 40 levels."),
		fail("too-many", "After 200 findings in a file the rest is left out."),
		fail("duplicate-key", "A key stands once in its mapping; YAML readers differ on which one would win."),
		fail("unknown-key", "Every key of an Installer is known; the nearest known one is suggested."),
		fail("wrong-type", "Every value has the type that its key wants; text that looks like a number is quoted."),
		fail("required", "apiVersion, kind, metadata.name, spec.k0s.version and the version of every add-on are there and not empty."),
	}
}
