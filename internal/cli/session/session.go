// Package session owns one run of a command line: the flags of all commands,
// progress, questions, the answer or the error, each told once. It refuses to
// know any command.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/term"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// ErrInterrupted is the cause to cancel Run's context with when the user asks
// to stop.
var ErrInterrupted = errors.New("interrupted")

// Process is what a run is given by the process that it runs in.
type Process struct {
	In       io.Reader
	Out, Err io.Writer
	Environ  []string // KEY=VALUE
	Version  string   // version of this build; empty if it was not told
	Gone     error    // what a write fails with when nobody reads any more; nil for none
	// Exec replaces the process by the program at path, as execve(2) does.
	Exec func(path string, argv, environ []string) error
}

// Run runs one command line of the commands in tree and returns the exit code of the public contract.
// Cancelling ctx abandons the current step safely.
func Run(ctx context.Context, p Process, args []string, tree func(*Session) *cobra.Command) (code int) {
	s := &Session{Process: p, args: args, Now: time.Now, secrets: &runlog.Secrets{}}
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(p.Err, "%s", debug.Stack())
			s.reply = Reply{}
			code = s.finish(problem.Newf(problem.ExitInternal, "go on", "this is a bug; please report it with the lines above", "%v", r))
		}
	}()
	root := tree(s)
	if len(args) > 0 && args[0] == "--version" { // as most programs have it
		args = append([]string{"version"}, args[1:]...)
	}
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = s.misread
	}
	if !s.Parsed {
		if s.format != formatJSON {
			s.format = formatOf(cmd, args)
		}
		err = usage(cmd, err)
	}
	return s.finish(err)
}

// Session is one run of a command.
type Session struct {
	Process
	globals
	args    []string
	Now     func() time.Time
	secrets *runlog.Secrets
	Parsed  bool  // the command line was understood
	misread error // why help was asked for what is not there
	reply   Reply
}

// Reply is what a command has to say: data for programs, text for people.
type Reply struct {
	Data any
	Text func(io.Writer)
}

// Answer is a reply.
func Answer(data any, text func(io.Writer)) Reply { return Reply{Data: data, Text: text} }

// Unless drops the reply of a command that failed.
func (r Reply) Unless(err error) (Reply, error) {
	if err != nil {
		return Reply{}, err
	}
	return r, nil
}

// finish prints the answer and the error, each once, and gives the exit code.
func (s *Session) finish(err error) int {
	if errors.Is(err, context.Canceled) || errors.Is(err, ErrInterrupted) {
		err = interrupted(err)
	}
	var written error
	switch {
	case s.format == formatJSON:
		written = answer.JSON(s.Out, s.reply.Data, err, s.secrets)
	default:
		out := &errWriter{w: s.Out}
		if s.reply.Text != nil {
			s.reply.Text(out)
		}
		written = out.err
		answer.Error(s.Err, err, s.secrets)
	}
	if err == nil && written != nil && !errors.Is(written, s.Gone) { // "plinth status | head" is no failure
		err = problem.New(problem.ExitInternal, "write the answer", written, "")
		answer.Error(s.Err, err, s.secrets)
	}
	return problem.ExitCode(err)
}

// interrupted gives a bare cancellation its exit code.
func interrupted(err error) error {
	if problem.ExitCode(err) != problem.ExitInternal {
		return err
	}
	return problem.New(problem.ExitInterrupted, "go on", ErrInterrupted, "run the same command again: it goes on, or begins anew")
}

// terminal reports whether stream is a terminal.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// errWriter remembers the first error of writing.
type errWriter struct {
	w   io.Writer
	err error
}

func (e *errWriter) Write(b []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	n, err := e.w.Write(b)
	e.err = err
	return n, err
}
