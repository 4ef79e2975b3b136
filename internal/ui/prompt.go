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

// Prompt is one question that is answered by yes or no.
type Prompt struct {
	In       io.Reader
	Out      io.Writer
	TTY      bool   // both ends are a terminal
	Question string // "Remove this cluster and all its data?"
	Flag     string // what answers yes without being asked: "--yes"
	Word     string // what has to be typed to agree; "" for y or yes
}

// Confirm asks and waits for the answer; only "y" and "yes", or
// Word, agree. Without a
// terminal it is a usage problem that names the flag. When ctx ends it stops
// waiting; the reader is then left behind, so the process should end soon.
func (p Prompt) Confirm(ctx context.Context) (bool, error) {
	if !p.TTY {
		return false, problem.New(problem.ExitUsage, "ask “"+p.Question+"”",
			errors.New("there is no terminal to ask on"), "add "+p.Flag+" to agree without being asked")
	}
	choices := " [y/N] "
	if p.Word != "" {
		choices = " "
	}
	fmt.Fprint(p.Out, p.Question, choices)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(p.In).ReadString('\n') // no answer is a no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		if p.Word != "" {
			return a == strings.ToLower(p.Word), nil
		}
		return a == "y" || a == "yes", nil
	case <-ctx.Done():
		return false, problem.New(problem.ExitInterrupted, "get an answer", context.Cause(ctx), "")
	}
}
