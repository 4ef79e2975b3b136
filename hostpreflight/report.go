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

// Warnings returns one text per check with state Warn: what was found and what to
// do. Warnings do not stop an operation.
func (r Report) Warnings() []string {
	var all []string
	for _, e := range r.Results {
		if e.State != Warn {
			continue
		}
		text := fmt.Sprintf("warning: %s: %s", e.ID, e.Found)
		if e.Fix != "" {
			text += "\n→ " + strings.ReplaceAll(e.Fix, "\n", "\n  ")
		}
		all = append(all, text)
	}
	return all
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
func (r Report) Text() string {
	var b strings.Builder
	width := 0
	for _, e := range r.Results {
		width = max(width, len(e.ID))
	}
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
	for _, s := range []struct {
		state       State
		title, mark string
	}{{Unknown, "Unknown", "unknown"}, {Warn, "Warnings", "warn"}, {Fail, "Failures", "FAIL"}} {
		title := s.title + "\n"
		for _, e := range r.Results {
			if e.State != s.state {
				continue
			}
			fmt.Fprintf(&b, "%s  %-7s  %-*s  %s\n", title, s.mark, width, e.ID, e.describeResult())
			title = ""
			if e.Fix != "" {
				fmt.Fprintf(&b, "           → %s\n", strings.ReplaceAll(e.Fix, "\n", "\n             "))
			}
		}
	}
	fmt.Fprintf(&b, "%s\n", r.Summary())
	return b.String()
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
