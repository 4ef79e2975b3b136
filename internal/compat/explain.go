package compat

import (
	"fmt"
	"strings"
	"unicode"
)

// Explanation is a result in words: the reason and what to do. Hint has one solution
// on each line, and its last line says that nothing has changed on the host.
type Explanation struct{ Cause, Hint string }

// String returns the whole message, cause and hint.
func (w Explanation) String() string {
	if w.Hint == "" {
		return w.Cause
	}
	return w.Cause + "\n→ " + strings.ReplaceAll(w.Hint, "\n", "\n  ")
}

const hostUnchanged = "nothing on this host has changed"

// Explain returns the explanation of v. title is the application's title, "" if it has
// none. "requires a different version of KOTS" and "Install KOTS version" are the
// words of KOTS itself, so that a search for its message finds this one. Unlike KOTS,
// it names the bound that failed.
func (v Result) Explain(title string) Explanation {
	switch {
	case title == "":
		title = "the application"
	case len(title) > 200 || strings.ContainsFunc(title, func(r rune) bool { return !unicode.IsPrint(r) }):
		title = quoteValue(title) // it comes from a file and is printed to a terminal
	}
	switch v.Outcome {
	case Block:
		return v.explainBlocked(title)
	case Undecidable:
		return v.explainUndecidable(title)
	case Unchecked:
		return Explanation{Cause: "the KOTS version gate had nothing to check: " + v.Note}
	}
	return Explanation{Cause: fmt.Sprintf("KOTS %s is compatible with %s", v.Actual, title)}
}

func (v Result) explainBlocked(title string) Explanation {
	side, release := "above", "later"
	if v.Bound == FieldMin {
		side, release = "below", "lower"
	}
	value := quoteValue(v.Value)
	if v.Value != v.Normalized {
		value += " (that is " + v.Normalized + ")"
	}
	name := strings.TrimPrefix(v.Bound, "spec.")
	return Explanation{
		Cause: fmt.Sprintf("this version of %s requires a different version of KOTS: the add-on is KOTS %s, which is %s the application's %s %s",
			title, v.Actual, side, name, value),
		Hint: fmt.Sprintf("%s a release of %s whose %s is %s or %s\n%s", v.suggestKOTS(), title, name, v.Actual, release, hostUnchanged),
	}
}

// suggestKOTS returns which KOTS to install instead. It names a release only if one exists that fits.
// That it exists does not mean that this build can install it.
func (v Result) suggestKOTS() string {
	switch {
	case v.Fitting != "":
		return fmt.Sprintf("Install KOTS version %s and try again: use an Installer or bundle whose %s is %s (the newest known that fits; `plinth lint` reports whether this version of plinth can install it),\nor",
			v.Fitting, FieldAddOn, v.Fitting)
	case v.Bound == FieldMin:
		return fmt.Sprintf("no KOTS that this version of plinth knows fits: use a newer plinth, and an Installer or bundle whose %s is %s or later,\nor", FieldAddOn, v.Normalized)
	}
	return "no KOTS that this version of plinth knows fits: use"
}

func (v Result) explainUndecidable(title string) Explanation {
	bad := make([]string, len(v.Invalid))
	for i, inv := range v.Invalid {
		bad[i] = fmt.Sprintf("%s is %s, and %s", inv.Field, quoteValue(inv.Value), inv.Reason)
	}
	return Explanation{
		Cause: fmt.Sprintf("the compatibility of this KOTS add-on with %s cannot be determined: %s", title, strings.Join(bad, "; ")),
		Hint:  "write a version such as 1.131.2\n" + hostUnchanged,
	}
}

// quoteValue returns a value in quotes: a long one is truncated, and control characters
// are escaped.
func quoteValue(s string) string {
	const limit = 64
	if r := []rune(s); len(r) > limit {
		s = string(r[:limit]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
