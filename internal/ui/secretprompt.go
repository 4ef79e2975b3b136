package ui

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/plinthdev/plinth/internal/problem"
)

// SecretPrompt asks for a line of text that the terminal does not show.
type SecretPrompt struct {
	In       io.Reader
	Out      io.Writer
	Question string // "Passphrase of the backup"
	// Hide turns off that the terminal shows what is typed; show turns it on again.
	Hide func() (show func() error, err error)
}

// maxSecret is the size limit of the answer, in bytes: a terminal passes no longer line.
const maxSecret = 4 << 10

// Ask asks, and returns the line without its end. When ctx or the input (Ctrl-D) ends, it returns the problem of an
// interrupted command at once, and the terminal shows what is typed again. As with Prompt.Confirm, a goroutine may still
// read from In then.
func (p SecretPrompt) Ask(ctx context.Context) (line string, err error) {
	show, err := p.Hide() // before the question: what is typed early stays hidden, too
	if err != nil {
		return "", err
	}
	fmt.Fprint(p.Out, p.Question+": ")
	defer func() {
		err = errors.Join(err, show())
		fmt.Fprintln(p.Out) // the end of the line that was typed is not shown either
	}()
	type answer struct {
		line string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		line, err := readLine(p.In)
		answered <- answer{line, err}
	}()
	select {
	case a := <-answered:
		if errors.Is(a.err, io.EOF) {
			return "", interruptedPrompt(errors.New("the input has ended"))
		}
		return a.line, a.err
	case <-ctx.Done():
		return "", interruptedPrompt(context.Cause(ctx))
	}
}

// interruptedPrompt returns the problem of a question that the user did not answer.
func interruptedPrompt(cause error) error {
	return problem.New(problem.ExitInterrupted, "continue", cause, "nothing was changed")
}

// readLine reads a line, and nothing of what follows it: that answers the next question. An input that ends within a line
// has no answer.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for next := make([]byte, 1); len(line) <= maxSecret; {
		n, err := r.Read(next)
		switch {
		case n == 1 && next[0] == '\n':
			return string(line), nil
		case n == 1:
			line = append(line, next[0])
		case err != nil:
			return "", err
		}
	}
	return "", fmt.Errorf("it has more than %d bytes", maxSecret)
}
