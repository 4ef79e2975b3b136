package compat

import (
	"fmt"
	"strings"
	"unicode"
)

// Words is a verdict for a person: why, and what to do about it. Hint has one
// way out a line and ends by saying that the host is as it was.
type Words struct{ Cause, Hint string }

// String is the whole message, cause and hint.
func (w Words) String() string {
	if w.Hint == "" {
		return w.Cause
	}
	return w.Cause + "\n→ " + strings.ReplaceAll(w.Hint, "\n", "\n  ")
}

const untouched = "nothing on this host has changed"

// Explain puts v into words. title is the application's, "" if it has none.
// "requires a different version of KOTS" and "Install KOTS version" are what
// KOTS itself would print later, so that a search for one finds the other; unlike
// KOTS it names the bound that failed.
func (v Verdict) Explain(title string) Words {
	switch {
	case title == "":
		title = "the application"
	case len(title) > 200 || strings.ContainsFunc(title, func(r rune) bool { return !unicode.IsPrint(r) }):
		title = quoted(title) // it comes from a file and goes to a terminal
	}
	switch v.Outcome {
	case Block:
		return v.blocked(title)
	case Undecidable:
		return v.undecidable(title)
	case Unchecked:
		return Words{Cause: "the KOTS version gate had nothing to check: " + v.Note}
	}
	return Words{Cause: fmt.Sprintf("KOTS %s may carry %s", v.Actual, title)}
}

func (v Verdict) blocked(title string) Words {
	side, addOn, release := "above", "lower", "later"
	if v.Bound == Min {
		side, addOn, release = "below", "later", "lower"
	}
	value := quoted(v.Value)
	if v.Value != v.Normalised {
		value += " (that is " + v.Normalised + ")"
	}
	name := strings.TrimPrefix(v.Bound, "spec.")
	return Words{
		Cause: fmt.Sprintf("this version of %s requires a different version of KOTS: the add-on is KOTS %s, which is %s the application's %s %s",
			title, v.Actual, side, name, value),
		Hint: fmt.Sprintf("Install KOTS version %s and try again: take an Installer or bundle whose %s is %s or %s,\nor a release of %s whose %s is %s or %s\n%s",
			v.Normalised, AddOn, v.Normalised, addOn, title, name, v.Actual, release, untouched),
	}
}

func (v Verdict) undecidable(title string) Words {
	bad := make([]string, len(v.Invalid))
	for i, inv := range v.Invalid {
		bad[i] = fmt.Sprintf("%s is %s, and %s", inv.Field, quoted(inv.Value), inv.Reason)
	}
	return Words{
		Cause: fmt.Sprintf("whether this KOTS add-on may carry %s cannot be decided: %s", title, strings.Join(bad, "; ")),
		Hint:  "write a version of the form 1.131.2\n" + untouched,
	}
}

// quoted shows a value as written; a long one is cut, white space and control characters show.
func quoted(s string) string {
	const limit = 64
	if r := []rune(s); len(r) > limit {
		s = string(r[:limit]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
