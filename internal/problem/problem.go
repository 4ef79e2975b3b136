// Package problem defines the user-facing error of Plinth: the operation that failed,
// the cause, a hint what to do next, and the exit code.
package problem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Exit codes of the plinth command. They are a public contract.
const (
	ExitOK          = 0   // done, or nothing to do
	ExitInternal    = 1   // unexpected internal error
	ExitUsage       = 2   // usage: unknown flag, missing argument, needs root, needs a flag in place of a prompt
	ExitConfig      = 3   // invalid Installer, Application or config file
	ExitGate        = 4   // the KOTS version gate blocks the installation
	ExitPreflight   = 5   // host preflights failed
	ExitBundle      = 6   // bundle missing, damaged, unsigned or signed by another key
	ExitStep        = 7   // a step failed; the same command resumes it
	ExitLocked      = 8   // another run holds the lock
	ExitJoin        = 9   // join refused
	ExitLeftover    = 10  // reset finished but left something behind
	ExitInterrupted = 130 // interrupted by the user
)

// Problem is an error for the user. Its message is "cannot <Operation>: <Err>"; the hint
// is printed on a separate line.
type Problem struct {
	Operation string // what failed, as the rest of "cannot …": "open bundle app.tar"
	Err       error  // the cause; never nil
	Hint      string // what the user can do, one or more lines; may be empty
	Exit      int    // exit code; 0 means ExitInternal
}

var _ error = (*Problem)(nil)

// New returns a Problem. operation becomes its Operation, err its cause.
func New(exit int, operation string, err error, hint string) *Problem {
	return &Problem{Operation: operation, Err: err, Hint: hint, Exit: exit}
}

// Newf returns a Problem whose cause is formatted like by fmt.Errorf, with %w.
func Newf(exit int, operation, hint, format string, args ...any) *Problem {
	return New(exit, operation, fmt.Errorf(format, args...), hint)
}

// Error returns the message in one line, without the hint.
func (p *Problem) Error() string { return "cannot " + p.Operation + ": " + explain(p.Err) }

// explain returns the text of err without the system call that Go puts before a
// path: "open /x: no such file or directory" becomes "/x: no such file or directory".
func explain(err error) string {
	text := err.Error()
	var path *fs.PathError
	if errors.As(err, &path) {
		text = strings.Replace(text, path.Error(), path.Path+": "+path.Err.Error(), 1)
	}
	return text
}

// PathCause returns the cause of an error of a system call on a path, without the call and the path, for messages that name
// the path themselves. It returns any other error as it is.
func PathCause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Err }

// ExitCode returns the exit code for err: ExitOK for nil, that of the outermost Problem
// in its chain, otherwise ExitInternal.
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

// ExplainTimeout returns text with Go's "context deadline exceeded" replaced by words for
// the user. The caller must name what did not answer.
func ExplainTimeout(text string) string {
	return strings.ReplaceAll(text, context.DeadlineExceeded.Error(), "no answer in time")
}

// Hint returns the hint of the outermost Problem in err's tree that has one, otherwise
// that of a wait that timed out, or "".
func Hint(err error) string {
	if hint := problemHint(err); hint != "" {
		return hint
	}
	var late interface{ Hint() string }
	if errors.As(err, &late) {
		return late.Hint()
	}
	return ""
}

// problemHint returns the hint of the outermost Problem in err's tree that has one.
func problemHint(err error) string {
	var p *Problem
	if !errors.As(err, &p) {
		return ""
	}
	if p.Hint != "" {
		return p.Hint
	}
	// Search all causes, not only p's own: a later one of several joined errors can
	// have a hint.
	var causes []error
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		causes = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		causes = e.Unwrap()
	}
	for _, c := range causes {
		if hint := problemHint(c); hint != "" {
			return hint
		}
	}
	return ""
}
