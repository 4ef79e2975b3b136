package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/status"
	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/ui"
)

func (s commandSet) statusCommand() *cobra.Command {
	var watch bool
	cmd := s.NewCommand("status", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			if watch {
				return commandOutput{}, s.watchStatus(ctx, env)
			}
			st, err := status.Get(ctx, env)
			return newOutput(st, func(w io.Writer) { printer.WriteStatus(w, st, s.verbose) }).OrError(err)
		}))
	cmd.Flags().BoolVar(&watch, "watch", false, "show the status again whenever it changes, until Ctrl-C")
	return cmd
}

// watchStatus shows the status, and again whenever it has changed, until ctx ends or the output has no reader any more.
// Neither is an error: a watch leaves nothing undone.
func (s commandSet) watchStatus(ctx context.Context, env *action.Env) error {
	s.idle.Store(true)
	show := s.newStatusWriter()
	var written error
	err := status.Watch(ctx, env, func(st status.Status) error {
		written = show(st)
		return written
	})
	if written != nil {
		return s.outputError(written)
	}
	return err
}

// newStatusWriter returns a function that writes one status of several: as a line of JSON, on a terminal in place of the
// last one, or else as a block of text.
func (s commandSet) newStatusWriter() func(status.Status) error {
	if s.outputFormat == formatJSON {
		return func(st status.Status) error { return printer.WriteJSON(s.Out, st, nil, s.secrets) }
	}
	mode := ui.ChooseMode(ui.ModeEnv{TTY: isTerminal(s.Out), Progress: string(s.progressMode), NoColor: s.noColor, Verbose: s.verbose, Environ: s.Environ})
	if mode.Progress == ui.Live {
		frame := ui.Frame{Out: s.Out, Size: func() (int, int) { return terminalSize(s.Out) }}
		return func(st status.Status) error { return frame.Draw(s.describeStatus(st, "; Ctrl-C ends this")) }
	}
	gap := ""
	return func(st status.Status) error {
		_, err := io.WriteString(s.Out, gap+s.describeStatus(st, ""))
		gap = "\n"
		return err
	}
}

// describeStatus returns the text of one status of several, below since when it has been so and a note.
func (s commandSet) describeStatus(st status.Status, note string) string {
	var text strings.Builder
	_ = printer.WriteText(&text, func(w io.Writer) { // a strings.Builder has no errors
		s.writeForUser(w, func(w io.Writer) {
			fmt.Fprintf(w, "Since %s%s:\n\n", st.Time.Format(time.RFC3339), note)
			printer.WriteStatus(w, st, s.verbose)
		})
	})
	return text.String()
}
