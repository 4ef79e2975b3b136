package ui

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
)

// Prompt is a question to the user that is answered with yes or no.
type Prompt struct {
	In           io.Reader
	Out          io.Writer
	TTY          bool   // input and output are a terminal
	Question     string // "Remove this cluster and all its data?"
	Flag         string // flag that answers yes: "--yes"
	RequiredWord string // word to type to agree; "" for y or yes
	Width        int    // columns of the terminal; 0 if unknown
}

// Confirm asks the question and reports whether the user agreed: with "y" or
// "yes", or with RequiredWord. Without a terminal it returns a usage problem that
// names the flag. When ctx ends it returns an error; its goroutine then still
// reads from In, so the process should exit soon.
func (p Prompt) Confirm(ctx context.Context) (bool, error) {
	if !p.TTY {
		return false, problem.New(problem.ExitUsage, "ask “"+p.Question+"”",
			errors.New("standard input and error are not a terminal"), "add "+p.Flag+" to confirm without a prompt")
	}
	choices := " [y/N] "
	if p.RequiredWord != "" {
		choices = " "
	}
	fmt.Fprint(p.Out, Wrap(CleanText(p.Question), p.Width), choices)
	answer := make(chan string, 1)
	go func() {
		line, err := bufio.NewReader(p.In).ReadString('\n') // no answer means no
		if err != nil {
			fmt.Fprintln(p.Out) // end of input leaves the cursor behind the question
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		if p.RequiredWord != "" {
			return a == strings.ToLower(p.RequiredWord), nil
		}
		return a == "y" || a == "yes", nil
	case <-ctx.Done():
		fmt.Fprintln(p.Out)
		return false, interruptedPrompt(context.Cause(ctx))
	}
}
