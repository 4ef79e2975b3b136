package answer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// envelope is the JSON document, or the last line, of -o json. Both parts may
// be there: what was found, and why the exit code is not 0.
type envelope struct {
	V      int        `json:"v"` // version of this form: 1
	Result any        `json:"result,omitempty"`
	Error  *jsonError `json:"error,omitempty"`
}

// jsonError is a problem.Problem for programs.
type jsonError struct {
	Doing string      `json:"doing,omitempty"` // what could not be done
	Cause string      `json:"cause"`           // why
	Hint  string      `json:"hint,omitempty"`  // what to do about it
	Exit  int         `json:"exit"`            // the process's exit code
	More  []jsonError `json:"more,omitempty"`  // others that happened in the same run
}

// JSON writes result and err, each if there is one, as one document on one line.
func JSON(w io.Writer, result any, err error, secrets *runlog.Secrets) error {
	doc := envelope{V: 1, Result: result}
	for _, p := range flatten(err) {
		e := jsonError{Cause: secrets.Clean(problem.Plain(p.Error())), Hint: secrets.Clean(problem.Hint(p)), Exit: problem.ExitCode(p)}
		var known *problem.Problem
		if errors.As(p, &known) {
			e.Doing, e.Cause = secrets.Clean(known.Doing), secrets.Clean(problem.Plain(known.Err.Error()))
		}
		if doc.Error == nil {
			doc.Error = &e
		} else {
			doc.Error.More = append(doc.Error.More, e)
		}
	}
	if doc.Error != nil {
		doc.Error.Exit = problem.ExitCode(err)
	}
	if doc.Result == nil && doc.Error == nil {
		return nil
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

// Error prints err for a person: what could not be done and why, then
// what to do about it.
func Error(w io.Writer, err error, secrets *runlog.Secrets) {
	for _, p := range flatten(err) {
		fmt.Fprintln(w, secrets.Clean(problem.Plain(p.Error())))
		for i, line := range strings.Split(secrets.Clean(problem.Hint(p)), "\n") {
			switch {
			case line == "":
			case i == 0:
				fmt.Fprintln(w, "→ "+line)
			default:
				fmt.Fprintln(w, "  "+line)
			}
		}
	}
}

// flatten lists the errors that errors.Join put together.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}
