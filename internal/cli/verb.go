package cli

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/faulttest"
	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"
)

// verbFunc runs one verb of internal/action in the environment r.
type verbFunc func(ctx context.Context, r *action.Env, args []string) (commandOutput, error)

// What -o json prints for a verb: one document, or its events and then the
// document.
const (
	singleDocument = false
	eventStream    = true
)

// WithEnv returns an actionFunc that calls do with an action.Env and shows
// progress until do returns. yes is the value of --yes, nil for a command
// without that flag.
func (s *runner) WithEnv(events bool, yes *bool, do verbFunc) actionFunc {
	return func(ctx context.Context, args []string) (commandOutput, error) {
		if err := action.CheckDataDirFlag(s.dataDir); err != nil {
			return commandOutput{}, err
		}
		mode := ui.ChooseMode(ui.ModeEnv{TTY: isTerminal(s.Err), Progress: string(s.progressMode), NoColor: s.noColor, Verbose: s.verbose,
			Events: events && s.outputFormat == formatJSON, Environ: s.Environ})
		progress := ui.New(ui.Options{Mode: mode, Out: s.Out, Err: s.Err, Secrets: s.secrets, Now: s.Now, Width: terminalWidth(s.Err)})
		note := func(text string) { progress.Note(ui.Wrap(s.adaptCommands(s.secrets.Mask(text)), terminalWidth(s.Err))) }
		stopNote := context.AfterFunc(ctx, func() {
			switch {
			case s.idle.Load():
			case events: // it changes a host
				note("Stopping at a point from which the same command can resume. Press Ctrl-C again to quit at once.")
			default:
				note("Stopping. Press Ctrl-C again to quit at once.")
			}
		})
		defer stopNote()
		points, err := faulttest.ArmFromEnviron(s.Environ, problem.Nearest, note)
		if err != nil {
			return commandOutput{}, err
		}
		r := action.New(action.GlobalOptions{
			DataDir: s.dataDir, LogFile: s.logFile, Verbose: s.verbose, Version: s.BuildInfo().Version,
			Events: progress.Event, Note: note, Secrets: s.secrets, Now: s.Now,
			Confirm:      func(ctx context.Context, question string) error { return s.confirmChange(ctx, question, yes) },
			ConfirmTyped: s.confirmTyped,
			Failpoints:   points,
		})
		answer, err := do(ctx, r, args)
		_ = progress.Close() // a closed terminal does not make the command fail
		return answer, err
	}
}

// confirmChange asks question on the terminal unless --yes was given. It
// returns nil if the user agrees.
func (s *runner) confirmChange(ctx context.Context, question string, yes *bool) error {
	if yes != nil && *yes {
		return nil
	}
	return s.ask(ctx, ui.Prompt{Question: question, Flag: "--yes"}, "you did not confirm")
}

// confirmTyped asks the user to type word. It returns nil if the user does.
// instead names the flags that answer the question without a terminal.
func (s *runner) confirmTyped(ctx context.Context, question, word, instead string) error {
	return s.ask(ctx, ui.Prompt{Question: question, Flag: instead, RequiredWord: word}, "the answer is not "+word)
}

// ask asks a question on the terminal. A refusal is a usage problem with the
// cause declined: the user decided, and nothing was interrupted.
func (s *runner) ask(ctx context.Context, p ui.Prompt, declined string) error {
	p.In, p.Out, p.TTY, p.Width = s.In, s.Err, isTerminal(s.In) && isTerminal(s.Err), terminalWidth(s.Err)
	var agreed bool
	err := s.waitForAnswer(ctx, func() (err error) {
		agreed, err = p.Confirm(ctx)
		return err
	})
	return answerError(agreed, err, declined)
}

// waitForAnswer calls ask, during which an interrupt ends the command at once.
func (s *runner) waitForAnswer(ctx context.Context, ask func() error) error {
	s.idle.Store(true)
	err := ask()
	if ctx.Err() == nil {
		s.idle.Store(false)
	}
	return err
}

// answerError returns err, or the problem of an answer that does not agree.
func answerError(agreed bool, err error, declined string) error {
	if err == nil && !agreed {
		err = problem.New(problem.ExitUsage, "continue", errors.New(declined), "nothing was changed")
	}
	return err
}

// NewProgress returns functions that report bytes as the step id of a verb. The step
// starts with the first call of progress; the first call of end after that reports
// its outcome.
func (s *runner) NewProgress(events func(step.Event), verb, id, title string) (progress func(done, total int64), end func(error)) {
	report := func(state step.EventState, done, total int64) {
		events(step.Event{V: 1, Time: s.Now().UTC(), Verb: verb, Step: id, Title: title, State: state, Bytes: done, Total: total})
	}
	started := false
	progress = func(done, total int64) {
		if !started {
			report(step.Started, 0, total)
		}
		started = true
		report(step.Progress, done, total)
	}
	return progress, func(err error) {
		switch {
		case !started:
		case err != nil:
			report(step.Failed, 0, 0)
		default:
			report(step.Finished, 0, 0)
		}
		started = false
	}
}

// installCommandVariable is set by install.sh to the command that fetches and runs it.
// The program that runs now is removed if it changes nothing.
const installCommandVariable = "PLINTH_INSTALL_COMMAND"

// CommandLineWithout returns the command line without a flag, quoted for a shell. It
// begins with the command of install.sh instead of "plinth install --source URL" if that
// script runs this program.
func (s *runner) CommandLineWithout(without string) string {
	line, args := programName, s.args
	if script := lookupVariable(s.Environ, installCommandVariable); script != "" && len(args) >= 3 && args[0] == "install" && args[1] == "--source" {
		line, args = script, args[3:]
	}
	for _, a := range args {
		if a != without {
			line += " " + printer.QuoteShellWord(a)
		}
	}
	return line
}
