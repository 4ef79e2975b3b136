package hostpreflight

import (
	"fmt"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// Schema is the version of the report's JSON format.
const Schema = 1

// Report contains the results of all checks, in the order of the registry.
type Report struct {
	Schema  int     `json:"schema"`
	Host    string  `json:"host"`
	Role    Role    `json:"role"`
	Verb    Verb    `json:"verb"` // verb that ran the checks
	Passed  int     `json:"passed"`
	Warned  int     `json:"warned"` // including ignored failures
	Failed  int     `json:"failed"`
	Unknown int     `json:"unknown"`
	Skipped int     `json:"skipped"`
	Results []Entry `json:"results"`
}

// Entry is one check and its result.
type Entry struct {
	ID    string `json:"id"`
	Group string `json:"group"`
	Title string `json:"title"`
	Result
	Ignored bool `json:"ignored,omitempty"` // it failed and was ignored
	Strict  bool `json:"strict,omitempty"`  // it failed and cannot be ignored

	Rationale string `json:"-"` // Check.Rationale, for users who ask for it
}

// addEntry appends e and updates the counts.
func (r *Report) addEntry(e Entry) {
	switch e.State {
	case Pass:
		r.Passed++
	case Warn:
		r.Warned++
	case Fail:
		r.Failed++
	case Unknown:
		r.Unknown++
	case Skipped:
		r.Skipped++
	}
	r.Results = append(r.Results, e)
}

// IgnoredIDs returns the ids of the checks that failed and were ignored, for the
// receipt.
func (r Report) IgnoredIDs() []string {
	var ids []string
	for _, e := range r.Results {
		if e.Ignored {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// Err returns nil when no check failed, otherwise a problem with exit code 5 that
// names the failed checks. operation is what could not be done: "install".
func (r Report) Err(operation string) error {
	if r.Failed == 0 {
		return nil
	}
	var failed, soft []string
	for _, e := range r.Results {
		if e.State == Fail {
			failed = append(failed, e.ID)
		}
		if e.State == Fail && !e.Strict {
			soft = append(soft, e.ID)
		}
	}
	hint := "follow the instructions after the arrows, then run the same command again"
	if soft != nil {
		hint += "; to continue anyway: --ignore-host-preflight " + strings.Join(soft, ",")
	}
	return problem.Newf(problem.ExitPreflight, operation, hint,
		"%s failed: %s", FormatCount(r.Failed, "host preflight"), strings.Join(failed, ", "))
}

// WarningText returns the checks with state Warn for a user who is about to continue: one line each under the
// heading of its group, and what happens if they are ignored. With details it returns them as VerboseText does.
// It returns "" if there are none.
func (r Report) WarningText(details bool) string {
	if r.Warned == 0 {
		return ""
	}
	b := &strings.Builder{}
	outcome := "The cluster works, at the cost or risk that each one names."
	if len(r.IgnoredIDs()) > 0 {
		outcome = "The cluster may not work with the ignored failures; each of the others is a cost or a risk."
	}
	fmt.Fprintf(b, "%s of the host preflights. %s\n", FormatCount(r.Warned, "warning"), outcome)
	if details {
		r.writeResults(b, Warn, "", "warn", true)
		return strings.TrimSuffix(b.String(), "\n")
	}
	group, width := "", 0
	for _, e := range r.Results {
		if e.State == Warn {
			width = max(width, len(e.ID))
		}
	}
	for _, e := range r.Results {
		if e.State != Warn {
			continue
		}
		if e.Group != group {
			group = e.Group
			fmt.Fprintf(b, "%s\n", group)
		}
		found, _, _ := strings.Cut(e.Found, "\n")
		if e.Ignored {
			found += " (failed, ignored by --ignore-host-preflight)"
		}
		fmt.Fprintf(b, "  %-*s  %s\n", width, e.ID, found)
	}
	b.WriteString("What to do about them, and why: sudo plinth preflight -v")
	if r.Role == Worker {
		b.WriteString(" --role worker")
	}
	return b.String()
}

// Summary returns the counts in one line.
func (r Report) Summary() string {
	s := fmt.Sprintf("%s passed", FormatCount(r.Passed, "check"))
	for _, p := range []struct {
		n    int
		what string
	}{{r.Unknown, "unknown"}, {r.Warned, "warned"}, {r.Failed, "failed"}} {
		if p.n > 0 {
			s += fmt.Sprintf(", %d %s", p.n, p.what)
		}
	}
	return s
}

// Text returns the report as text for users: one line per passed check under the
// heading of its group, then the unknown results, the warnings and the failures,
// each with what to do. Skipped checks are left out.
func (r Report) Text() string { return r.text(false) }

// VerboseText is Text with the reason of each warning and failure: what happens if it is ignored.
func (r Report) VerboseText() string { return r.text(true) }

func (r Report) text(verbose bool) string {
	var b strings.Builder
	width := r.idWidth()
	group := ""
	for _, e := range r.Results {
		if e.State != Pass {
			continue
		}
		if e.Group != group {
			group = e.Group
			fmt.Fprintf(&b, "%s\n", group)
		}
		fmt.Fprintf(&b, "  ok       %-*s  %s\n", width, e.ID, e.Found)
	}
	r.writeResults(&b, Unknown, "Unknown\n", "unknown", verbose)
	r.writeResults(&b, Warn, "Warnings\n", "warn", verbose)
	r.writeResults(&b, Fail, "Failures\n", "FAIL", verbose)
	fmt.Fprintf(&b, "%s\n", r.Summary())
	return b.String()
}

// idWidth returns the length of the longest id.
func (r Report) idWidth() (width int) {
	for _, e := range r.Results {
		width = max(width, len(e.ID))
	}
	return width
}

// writeResults writes the results with a state and what to do about them, below title. mark is the word of the
// state; with reasons, each one has the reason of its check.
func (r Report) writeResults(b *strings.Builder, state State, title, mark string, reasons bool) {
	width := r.idWidth()
	for _, e := range r.Results {
		if e.State != state {
			continue
		}
		fmt.Fprintf(b, "%s  %-7s  %-*s  %s\n", title, mark, width, e.ID, e.describeResult())
		title = ""
		if e.Fix != "" {
			fmt.Fprintf(b, "           → %s\n", strings.ReplaceAll(e.Fix, "\n", "\n             "))
		}
		if reasons && e.Rationale != "" {
			fmt.Fprintf(b, "           why: %s\n", strings.ReplaceAll(e.Rationale, "\n", "\n             "))
		}
	}
}

// describeResult returns what was found, and what is expected if the fix does not
// say it already.
func (e Entry) describeResult() string {
	s := e.Found
	if e.State != Unknown && !strings.HasPrefix(e.Fix, e.Expected) { // a vendor's message says both
		s += "; wanted: " + e.Expected
	}
	if e.Ignored {
		s += " (ignored by --ignore-host-preflight)"
	}
	switch {
	case e.Strict && strings.HasPrefix(e.ID, "vendor-"):
		s += " (cannot be ignored: the vendor marked it as strict)"
	case e.Strict:
		s += " (cannot be ignored)"
	}
	return s
}
