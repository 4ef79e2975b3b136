package session

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/plinthdev/plinth/internal/app/drill"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/teach"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"
)

// Verb runs one verb of the application.
type Verb func(ctx context.Context, r *run.Run, args []string) (Reply, error)

// What a verb's -o json is: one document, or its events and then the document.
const (
	Once   = false
	Stream = true
)

// With gives do the application and shows progress until it returns.
func (s *Session) With(events bool, yes *bool, do Verb) Action {
	return func(ctx context.Context, args []string) (Reply, error) {
		if s.dataDir != "" && !filepath.IsAbs(s.dataDir) {
			return Reply{}, problem.New(problem.ExitUsage, "use the data folder "+s.dataDir, errors.New("its path does not begin with /"), "give --data-dir the whole path")
		}
		mode := ui.Choose(ui.Env{TTY: terminal(s.Err), Progress: string(s.progressMode), NoColor: s.noColor, Verbose: s.verbose,
			Events: events && s.format == formatJSON, Environ: s.Environ})
		progress := ui.New(ui.Options{Mode: mode, Out: s.Out, Err: s.Err, Secrets: s.secrets, Now: s.Now})
		quiet := context.AfterFunc(ctx, func() {
			progress.Note("Stopping after the current step. Press Ctrl-C again to quit at once.")
		})
		defer quiet()
		points, err := drill.Armed(s.Environ, teach.Nearest, progress.Note)
		if err != nil {
			return Reply{}, err
		}
		r := run.New(run.Config{
			DataDir: s.dataDir, LogFile: s.logFile, Version: s.Build().Version,
			Events: progress.Event, Note: progress.Note, Secrets: s.secrets, Now: s.Now,
			Confirm:    func(ctx context.Context, question string) error { return s.confirm(ctx, question, yes) },
			Type:       s.typed,
			Failpoints: points,
		})
		answer, err := do(ctx, r, args)
		_ = progress.Close() // a terminal that has gone is no reason to fail
		return answer, err
	}
}

// confirm asks unless --yes was given; nil is yes.
func (s *Session) confirm(ctx context.Context, question string, yes *bool) error {
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

// typed asks for word to be typed; nil is that it was.
func (s *Session) typed(ctx context.Context, question, word, instead string) error {
	ask := ui.Prompt{In: s.In, Out: s.Err, TTY: terminal(s.In) && terminal(s.Err), Question: question, Flag: instead, Word: word}
	agreed, err := ask.Confirm(ctx)
	if err == nil && !agreed {
		err = problem.New(problem.ExitInterrupted, "go on", errors.New("that is not "+word), "nothing was changed")
	}
	return err
}

// Meter shows bytes as the one step of a verb, from the first byte on.
func (s *Session) Meter(events func(step.Event), verb, title string) (progress func(done, total int64), end func(error)) {
	tell := func(state step.EventState, done, total int64) {
		events(step.Event{V: 1, Time: s.Now().UTC(), Verb: verb, Step: "bundle", Title: title, State: state, Bytes: done, Total: total})
	}
	begun := false
	progress = func(done, total int64) {
		if !begun {
			tell(step.Started, 0, total)
		}
		begun = true
		tell(step.Progress, done, total)
	}
	return progress, func(err error) {
		switch {
		case !begun:
		case err != nil:
			tell(step.Failed, 0, 0)
		default:
			tell(step.Finished, 0, 0)
		}
	}
}

// Again is the command line without a flag.
func (s *Session) Again(without string) string {
	line := "plinth"
	for _, a := range s.args {
		if a != without {
			line += " " + answer.Quote(a)
		}
	}
	return line
}
