package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui"
)

// ErrInterrupted is the cause with which to cancel the context of
// runCommandLine when the user asks to stop.
var ErrInterrupted = errors.New("interrupted")

// Process holds what a run uses of the process around it.
type Process struct {
	In          io.Reader
	Out, Err    io.Writer
	Environ     []string // KEY=VALUE
	Name        string   // name by which the program was called, without its folder
	Version     string   // version of this build; empty if the linker did not set it
	ErrNoReader error    // error of a write to a pipe without a reader; nil if there is no such error
	NeedsSudo   bool     // the user has to type sudo before a command that needs root
	// CommandName returns how the user calls this program in the next command; "" if its file was
	// removed. A nil func stands for "plinth".
	CommandName func() string
	// Exec replaces this process with the program at path, like execve(2).
	Exec func(path string, argv, environ []string) error
}

// runCommandLine runs the command line args against the commands that tree
// returns. It returns the exit code of the public contract. Canceling ctx
// stops safely at the current step.
func runCommandLine(ctx context.Context, p Process, args []string, tree func(*runner) *cobra.Command) (code int) {
	s := &runner{Process: p, args: args, Now: time.Now, secrets: &ui.Secrets{}}
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(p.Err, "%s", debug.Stack())
			s.output = commandOutput{}
			code = s.writeOutcome(problem.Newf(problem.ExitInternal, "continue", "this is a bug; report it with the lines above", "%v", r))
		}
	}()
	hideSecretArgs(s.secrets, args)
	root := tree(s)
	if len(args) > 0 && args[0] == "--version" { // a common spelling in other programs
		args = append([]string{"version"}, args[1:]...)
	}
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = s.helpError
	}
	if !s.Parsed {
		if s.outputFormat != formatJSON {
			s.outputFormat = requestedFormat(args)
		}
		err = usageError(cmd, unknownCommandFirst(cmd, args, err))
	}
	return s.writeOutcome(err)
}

// runner runs one command line.
type runner struct {
	Process
	globalFlags
	args      []string
	Now       func() time.Time
	secrets   *ui.Secrets
	Parsed    bool  // the command line was parsed without an error
	helpError error // the command named before --help does not exist
	output    commandOutput
	idle      atomic.Bool // nothing runs that has to be stopped safely: a question waits for its answer, or a status is watched
}

// commandOutput is the result of a command: data for programs and text for people.
type commandOutput struct {
	Data any
	Text func(io.Writer)
	File bool // Text is the content of a file: commands in it are not adapted to this user and folder
}

// newOutput returns a commandOutput: data is printed as JSON, text writes the text.
func newOutput(data any, text func(io.Writer)) commandOutput {
	return commandOutput{Data: data, Text: text}
}

// OrError returns r, or an empty commandOutput and err if err is not nil.
func (r commandOutput) OrError(err error) (commandOutput, error) {
	if err != nil {
		return commandOutput{}, err
	}
	return r, nil
}

// writeOutcome writes the output and the error, each once, and returns the
// exit code.
func (s *runner) writeOutcome(err error) int {
	if errors.Is(err, context.Canceled) || errors.Is(err, ErrInterrupted) {
		err = interruptedError(err)
	}
	var written error
	if s.outputFormat == formatJSON {
		written = printer.WriteJSON(s.Out, s.output.Data, err, s.secrets)
	} else {
		if s.output.Text != nil {
			written = printer.WriteText(s.Out, s.writeOutputText)
		}
		s.writeError(err)
	}
	if written = s.outputError(written); err == nil && written != nil {
		err = written
		s.writeError(err)
	}
	return problem.ExitCode(err)
}

// outputError returns the problem of an output that could not be written because of err. It returns nil if its reader
// has ended: "plinth status | head" is not a failure.
func (s *runner) outputError(err error) error {
	if err == nil || errors.Is(err, s.ErrNoReader) {
		return nil
	}
	return problem.New(problem.ExitInternal, "write the output", err, "the command itself was carried out; check where standard output leads: a full disk, a closed pipe")
}

// writeOutputText writes the output of the command as text.
func (s *runner) writeOutputText(w io.Writer) {
	if s.output.File {
		s.output.Text(w)
		return
	}
	s.writeForUser(w, s.output.Text)
}

// writeError writes err for the terminal of the user.
func (s *runner) writeError(err error) {
	var text strings.Builder
	printer.WriteError(&text, err, s.secrets)
	fmt.Fprint(s.Err, ui.Wrap(s.adaptCommands(text.String()), terminalWidth(s.Err)))
}

// writeForUser writes the text of write for the terminal of the user.
func (s *runner) writeForUser(w io.Writer, write func(io.Writer)) {
	var text strings.Builder
	write(&text)
	fmt.Fprint(w, ui.Wrap(s.adaptCommands(text.String()), terminalWidth(s.Out)))
}

// adaptCommands returns text with the commands in it as the user has to type them: with sudo, if the
// user needs that, and with the name of this program, unless it is the plinth on the PATH.
func (s *runner) adaptCommands(text string) string {
	if s.NeedsSudo {
		text = printer.AddSudo(text, objectstore.InEnvironment(func(name string) string { return lookupVariable(s.Environ, name) }))
	}
	if name := s.commandName(text); name != programName {
		text = printer.NameProgram(text, name)
	}
	return text
}

// commandName returns the name of the program for the commands in text.
func (s *runner) commandName(text string) string {
	if s.CommandName == nil || !strings.Contains(text, programName+" ") || lookupVariable(s.Environ, installCommandVariable) != "" { // install.sh runs a temporary file
		return programName
	}
	return cmp.Or(s.CommandName(), removedProgram)
}

// removedProgram is the name in commands of a program whose file was removed.
const removedProgram = "./EXECUTABLE"

// interruptedError returns err, with the exit code for an interrupt if it is a
// bare cancellation.
func interruptedError(err error) error {
	if problem.ExitCode(err) != problem.ExitInternal {
		return err
	}
	return problem.New(problem.ExitInterrupted, "continue", ErrInterrupted, "run the same command again: it resumes, or starts from the beginning")
}

// terminalWidth returns the number of columns of the terminal stream; 0 if it is
// not a terminal.
func terminalWidth(stream any) int {
	width, _ := terminalSize(stream)
	return width
}

// terminalSize returns the numbers of columns and rows of the terminal stream; 0 if it is not a terminal.
func terminalSize(stream any) (columns, rows int) {
	f, ok := stream.(*os.File)
	if !ok {
		return 0, 0
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return columns, rows
}

// isTerminal reports whether stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
