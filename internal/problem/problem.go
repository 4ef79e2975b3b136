// Package problem owns the one user-facing error of Plinth: what was being
// done, why it failed, what to do about it and which exit code it means.
// It refuses to decide anything: callers say what they know, cli prints once.
package problem

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Exit codes of the public contract.
const (
	ExitOK          = 0   // done, or nothing to do
	ExitInternal    = 1   // unexpected internal error
	ExitUsage       = 2   // usage: unknown flag, missing argument, needs root, needs a flag in place of a prompt
	ExitConfig      = 3   // invalid Installer, Application or config file
	ExitGate        = 4   // the KOTS version gate says no
	ExitPreflight   = 5   // host preflights failed
	ExitBundle      = 6   // bundle missing, damaged, unsigned or signed by another key
	ExitStep        = 7   // a step failed; the same command resumes it
	ExitLocked      = 8   // another run holds the lock
	ExitJoin        = 9   // join refused
	ExitLeftover    = 10  // reset finished but something is left
	ExitInterrupted = 130 // interrupted by the user
)

// Problem is an error for a person: it reads "cannot <Doing>: <Err>" and,
// on a line of its own, what to do next.
type Problem struct {
	Doing string // what was tried, as the rest of "cannot …": "open bundle app.tar"
	Err   error  // the cause; never nil
	Hint  string // what the user can do; one or more lines, empty if nothing is known
	Exit  int    // exit code of the public contract; 0 counts as ExitInternal
}

var _ error = (*Problem)(nil)

// New returns a Problem with the exit code exit.
func New(exit int, doing string, err error, hint string) *Problem {
	return &Problem{Doing: doing, Err: err, Hint: hint, Exit: exit}
}

// Newf is New with a cause made from a format string; %w wraps.
func Newf(exit int, doing, hint, format string, args ...any) *Problem {
	return New(exit, doing, fmt.Errorf(format, args...), hint)
}

// Error is the one-line form, without the hint.
func (p *Problem) Error() string { return "cannot " + p.Doing + ": " + p.Err.Error() }

// Unwrap gives the cause to errors.Is and errors.As.
func (p *Problem) Unwrap() error { return p.Err }

// ExitCode is the exit code that err means: 0 for nil, that of the outermost
// Problem in its chain, else ExitInternal.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	var p *Problem
	if errors.As(err, &p) && p.Exit != 0 {
		return p.Exit
	}
	return ExitInternal
}

// Plain words what the clock did to a question. Whoever asked names whom.
func Plain(text string) string {
	return strings.ReplaceAll(text, context.DeadlineExceeded.Error(), "no answer in time")
}

// Hint is the hint of the outermost Problem in err's tree that has one, else
// that of a wait that took too long, or "".
func Hint(err error) string {
	if hint := ofProblem(err); hint != "" {
		return hint
	}
	var late interface{ Hint() string }
	if errors.As(err, &late) {
		return late.Hint()
	}
	return ""
}

func ofProblem(err error) string {
	var p *Problem
	if !errors.As(err, &p) {
		return ""
	}
	if p.Hint != "" {
		return p.Hint
	}
	// Not p's own cause alone: of several joined errors a later one may know.
	var causes []error
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		causes = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		causes = e.Unwrap()
	}
	for _, c := range causes {
		if hint := ofProblem(c); hint != "" {
			return hint
		}
	}
	return ""
}
