package hostpreflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// Passed returns a Result with state Pass. format and args describe what was
// found.
func Passed(format string, args ...any) Result {
	return Result{State: Pass, Found: fmt.Sprintf(format, args...)}
}

// Warned returns a Result with state Warn: the host will work, with a known cost
// or risk. fix says what to do; format and args describe what was found.
func Warned(fix, format string, args ...any) Result {
	return Result{State: Warn, Found: fmt.Sprintf(format, args...), Fix: fix}
}

// Failed returns a Result with state Fail: the host will not work. fix says what
// to do; format and args describe what was found.
func Failed(fix, format string, args ...any) Result {
	return Result{State: Fail, Found: fmt.Sprintf(format, args...), Fix: fix}
}

// Undetermined returns a Result with state Unknown. reason says why the check
// has no result.
func Undetermined(reason string) Result { return Result{State: Unknown, Found: reason} }

// RequireFact returns run with a guard: when fact could not be gathered, the
// result is Undetermined and run is not called.
func RequireFact(fact string, run func(facts.Facts, Requirements) Result) func(facts.Facts, Requirements) Result {
	return func(f facts.Facts, req Requirements) Result {
		if reason := f.UnknownReason(fact); reason != "" {
			return Undetermined(reason)
		}
		return run(f, req)
	}
}

// WorstResult returns the result of a check that inspects several things: the
// worst state in all, with the findings and fixes of all results in that state.
// It is Undetermined when all is empty.
func WorstResult(all []Result) Result {
	for _, state := range []State{Fail, Warn, Unknown, Pass} {
		var found, wanted, fix []string
		for _, r := range all {
			if r.State == state {
				found, wanted, fix = appendUnique(found, r.Found), appendUnique(wanted, r.Expected), appendUnique(fix, r.Fix)
			}
		}
		if found != nil {
			return Result{State: state, Found: strings.Join(found, "; "), Expected: strings.Join(wanted, "; "), Fix: strings.Join(fix, "\n")}
		}
	}
	return Undetermined("nothing was checked")
}

// appendUnique returns all with s appended, unless s is empty or already there.
func appendUnique(all []string, s string) []string {
	if s == "" || slices.Contains(all, s) {
		return all
	}
	return append(all, s)
}

// FormatBytes returns n bytes in decimal units, as disks and memory are sold:
// "512 MB", "4.3 GB".
func FormatBytes(n uint64) string {
	if n >= 1e9 {
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.0f MB", float64(n)/1e6)
}

// FormatCount returns n with the noun what in singular or plural: "1 check",
// "2 checks".
func FormatCount(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
