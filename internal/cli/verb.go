package cli

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui"
)

// verb runs one verb of the application.
type verb func(ctx context.Context, r *run.Run, args []string) (reply, error)

// What a verb's -o json is: one document, or its events and then the document.
const (
	once   = false
	stream = true
)

// with gives do the application and shows progress until it returns.
func (s *session) with(events bool, yes *bool, do verb) action {
	return func(ctx context.Context, args []string) (reply, error) {
		mode := ui.Choose(ui.Env{TTY: terminal(s.Err), Progress: string(s.progressMode), NoColor: s.noColor, Verbose: s.verbose,
			Events: events && s.format == formatJSON, Environ: s.Environ})
		progress := ui.New(ui.Options{Mode: mode, Out: s.Out, Err: s.Err, Secrets: s.secrets, Now: s.now})
		quiet := context.AfterFunc(ctx, func() {
			progress.Note("Stopping after the current step. Press Ctrl-C again to quit at once.")
		})
		defer quiet()
		r := run.New(run.Config{
			DataDir: s.dataDir, LogFile: s.logFile, Version: s.build().Version,
			Events: progress.Event, Note: progress.Note, Secrets: s.secrets, Now: s.now,
			Confirm: func(ctx context.Context, question string) error { return s.confirm(ctx, question, yes) },
		})
		answer, err := do(ctx, r, args)
		_ = progress.Close() // a terminal that has gone is no reason to fail
		return answer, err
	}
}

// confirm asks unless --yes was given; nil is yes.
func (s *session) confirm(ctx context.Context, question string, yes *bool) error {
	if yes != nil && *yes {
		return nil
	}
	ask := ui.Prompt{In: s.In, Out: s.Err, TTY: terminal(s.In) && terminal(s.Err), Question: question, Flag: "--yes"}
	agreed, err := ask.Confirm(ctx)
	if err == nil && !agreed {
		err = problem.New(problem.ExitInterrupted, "go on", errors.New("you did not agree"), "nothing was changed")
	}
	return err
}
