package session

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/cli/teach"
)

// Action is what a command does once its flags are read.
type Action func(ctx context.Context, args []string) (Reply, error)

// Command makes a command; its help stands in help/<path>.txt.
func (s *Session) Command(use string, args cobra.PositionalArgs, do Action) *cobra.Command {
	return &cobra.Command{
		Use: use, Args: filled(args), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			s.Parsed = true
			s.reply, err = do(cmd.Context(), args)
			return err
		},
	}
}

// Root is the command tree of children: what holds for all of them.
func (s *Session) Root(children ...*cobra.Command) *cobra.Command {
	root := s.Group("plinth", children...)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.TraverseChildren = true // flags of plinth may stand before kubectl, whose own flags are not ours
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetHelpCommand(helpCommand())
	root.InitDefaultHelpCmd()
	s.format, s.progressMode = formatText, "auto"
	f := root.PersistentFlags()
	f.VarP(choices{&s.format, []string{"text", "json"}}, "output", "o", "`form` of the answer on standard output: text or json")
	f.Var(choices{&s.progressMode, []string{"auto", "plain", "none"}}, "progress", "how progress is shown on standard error: `form` is auto, plain or none")
	f.StringVar(&s.logFile, "log-file", "", "`file` for the log of a command that changes the host (default /var/log/plinth/<verb>-<time>.log)")
	f.StringVar(&s.dataDir, "data-dir", "", "`folder` of Plinth's and the cluster's data (default the one that this host has, else /var/lib/plinth)")
	f.BoolVar(&s.noColor, "no-color", false, "never use colours")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "show every second what is being done, one line each")
	teach.Tree(root)
	root.SetHelpFunc(s.help) // for all below it
	return root
}

// Group makes a command that only holds others.
func (s *Session) Group(name string, children ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: name, Args: noSuchCommand, DisableFlagsInUseLine: true}
	g.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.HasParent() {
			s.Parsed = true
			return cmd.Help()
		}
		return errors.New("one more word is missing: " + strings.Join(names(cmd), ", "))
	}
	g.AddCommand(children...)
	return g
}

func names(cmd *cobra.Command) []string {
	var all []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			all = append(all, c.Name())
		}
	}
	return all
}

// help is what --help prints, unless the words before it are no command.
func (s *Session) help(cmd *cobra.Command, _ []string) {
	if cmd.HasSubCommands() {
		if s.misread = noSuchCommand(cmd, cmd.Flags().Args()); s.misread != nil {
			return
		}
	}
	teach.Write(cmd.OutOrStdout(), cmd)
}

// helpCommand is "plinth help COMMAND".
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err == nil {
				err = noSuchCommand(found, rest)
			}
			if err != nil {
				return err
			}
			return found.Help()
		},
	}
}
