package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/ui"
)

// actionFunc runs a command after its flags have been parsed.
type actionFunc func(ctx context.Context, args []string) (commandOutput, error)

// NewCommand returns a command whose help text is in help/<path>.txt.
func (s *runner) NewCommand(use string, args cobra.PositionalArgs, do actionFunc) *cobra.Command {
	return &cobra.Command{
		Use: use, Args: rejectEmptyFlags(args), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			s.Parsed = true
			s.output, err = do(cmd.Context(), args)
			return err
		},
	}
}

// NewRoot returns the root command with children below it, the global flags
// and the help of the whole tree.
func (s *runner) NewRoot(children ...*cobra.Command) *cobra.Command {
	root := s.NewGroup(programName, children...)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.TraverseChildren = true // so that plinth's own flags can come before kubectl, which parses its flags itself
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetHelpCommand(newHelpCommand())
	root.InitDefaultHelpCmd()
	s.outputFormat, s.progressMode = formatText, "auto"
	f := root.PersistentFlags()
	f.VarP(enumFlag{&s.outputFormat, []string{"text", "json"}}, "output", "o", "output format")
	f.Var(enumFlag{&s.progressMode, []string{"auto", "plain", "none"}}, "progress", "how to show progress on standard error")
	f.StringVar(&s.logFile, "log-file", "", "log `file` (default /var/log/plinth/<verb>-<time>.log)")
	f.StringVar(&s.dataDir, "data-dir", "", "data `directory` (default: the one in use, else /var/lib/plinth)")
	f.BoolVar(&s.noColor, "no-color", false, "do not use colors")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "print details of progress (each second), preflights and status")
	setHelp(root)
	root.SetHelpFunc(s.printHelp) // inherited by all commands below
	return root
}

// NewGroup returns a command that does nothing but hold children.
func (s *runner) NewGroup(name string, children ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: name, Args: rejectUnknownCommand, DisableFlagsInUseLine: true}
	g.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.HasParent() {
			s.Parsed = true
			return cmd.Help()
		}
		return errors.New("missing subcommand: " + strings.Join(subcommandNames(cmd), ", "))
	}
	g.AddCommand(children...)
	return g
}

// subcommandNames returns the names of the visible subcommands of cmd.
func subcommandNames(cmd *cobra.Command) []string {
	var all []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			all = append(all, c.Name())
		}
	}
	return all
}

// printHelp prints the help of cmd. If the words before --help do not name a
// command, it records that error instead.
func (s *runner) printHelp(cmd *cobra.Command, _ []string) {
	if cmd.HasSubCommands() {
		if s.helpError = rejectUnknownCommand(cmd, cmd.Flags().Args()); s.helpError != nil {
			return
		}
	}
	var text strings.Builder
	width := terminalWidth(s.Out)
	writeHelp(&text, cmd, width)
	fmt.Fprint(s.Out, ui.Wrap(text.String(), width))
}

// newHelpCommand returns the command "plinth help COMMAND". The root's command
// list leaves it out, because the line above it names it.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err == nil {
				err = rejectUnknownCommand(found, rest)
			}
			if err != nil {
				return err
			}
			return found.Help()
		},
	}
}
