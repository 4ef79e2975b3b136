package printer

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui"
)

// jsonDocument is the document, or the last line, that -o json prints. It can
// hold both parts: a result, and the error that explains a nonzero exit code.
type jsonDocument struct {
	V      int        `json:"v"` // version of this format: 1
	Result any        `json:"result,omitempty"`
	Error  *jsonError `json:"error,omitempty"`
}

// jsonError is the JSON format of a problem.Problem.
type jsonError struct {
	Operation string      `json:"operation,omitempty"` // what failed
	Cause     string      `json:"cause"`               // why
	Hint      string      `json:"hint,omitempty"`      // what to do about it
	Exit      int         `json:"exit"`                // exit code of the process
	More      []jsonError `json:"more,omitempty"`      // other errors of the same run
}

// WriteJSON writes result and err, each unless it is nil, as one document on one
// line. Secrets are masked in err.
func WriteJSON(w io.Writer, result any, err error, secrets *ui.Secrets) error {
	doc := jsonDocument{V: 1, Result: result}
	for _, p := range flattenErrors(err) {
		e := jsonError{Cause: secrets.Mask(problem.ExplainTimeout(p.Error())), Hint: secrets.Mask(problem.Hint(p)), Exit: problem.ExitCode(p)}
		var known *problem.Problem
		if errors.As(p, &known) {
			e.Operation, e.Cause = secrets.Mask(known.Operation), secrets.Mask(problem.ExplainTimeout(known.Err.Error()))
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
	return ui.WriteJSON(w, doc)
}

// WriteError writes err as text: what failed and why, then what to do about it.
// Secrets are masked, and what could control a terminal becomes visible. Only the
// first line of each error and of its hint starts at the margin, so that a name
// with a newline in it cannot look like another error or hint.
func WriteError(w io.Writer, err error, secrets *ui.Secrets) {
	write := func(text string) {
		fmt.Fprintln(w, strings.ReplaceAll(ui.CleanText(secrets.Mask(text)), "\n", "\n  "))
	}
	for _, p := range flattenErrors(err) {
		write(problem.ExplainTimeout(p.Error()))
		if hint := strings.TrimSpace(problem.Hint(p)); hint != "" {
			write("→ " + hint)
		}
	}
}

// flattenErrors returns the errors that errors.Join combined, in order.
func flattenErrors(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flattenErrors(e)...)
	}
	return all
}
