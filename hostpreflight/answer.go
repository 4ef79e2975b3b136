package hostpreflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// Passed is the answer "as wanted", and what was found.
func Passed(format string, args ...any) Result {
	return Result{State: Pass, Found: fmt.Sprintf(format, args...)}
}

// Warned is the answer "will work, but", what to do, and what was found.
func Warned(fix, format string, args ...any) Result {
	return Result{State: Warn, Found: fmt.Sprintf(format, args...), Fix: fix}
}

// Failed is the answer "will not work", what to do, and what was found.
func Failed(fix, format string, args ...any) Result {
	return Result{State: Fail, Found: fmt.Sprintf(format, args...), Fix: fix}
}

// CannotTell is no answer, and why there is none.
func CannotTell(why string) Result { return Result{State: Unknown, Found: why} }

// Told puts "cannot tell" before run: no check judges a fact that was not gathered.
func Told(fact string, run func(facts.Facts, Want) Result) func(facts.Facts, Want) Result {
	return func(f facts.Facts, w Want) Result {
		if why := f.Why(fact); why != "" {
			return CannotTell(why)
		}
		return run(f, w)
	}
}

// Worst is the answer of a check that looks at several things: the worst
// state, with all that was found in that state and how to mend it.
func Worst(all []Result) Result {
	for _, state := range []State{Fail, Warn, Unknown, Pass} {
		var found, wanted, fix []string
		for _, r := range all {
			if r.State == state {
				found, wanted, fix = once(found, r.Found), once(wanted, r.Wanted), once(fix, r.Fix)
			}
		}
		if found != nil {
			return Result{State: state, Found: strings.Join(found, "; "), Wanted: strings.Join(wanted, "; "), Fix: strings.Join(fix, "\n")}
		}
	}
	return CannotTell("nothing was looked at")
}

func once(all []string, s string) []string {
	if s == "" || slices.Contains(all, s) {
		return all
	}
	return append(all, s)
}

// Bytes writes a size as people buy it, in decimal units.
func Bytes(n uint64) string {
	if n >= 1e9 {
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.0f MB", float64(n)/1e6)
}

// Count writes n things: "1 check", "2 checks".
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
