package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/plinthdev/plinth/internal/cli/teach"
)

// globals are the flags that every command takes.
type globals struct {
	format       format
	progressMode choice
	logFile      string
	dataDir      string
	noColor      bool
	verbose      bool
}

// format is the value of --output.
type format = choice

const (
	formatText format = "text"
	formatJSON format = "json"
)

// choice is a flag that takes one of a few words; the words are its type.
type choice string

// choices makes a pflag.Value of *c that takes one of words.
type choices struct {
	value *choice
	words []string
}

var _ pflag.Value = choices{}

func (c choices) String() string { return string(*c.value) }
func (c choices) Type() string   { return strings.Join(c.words, "|") }
func (c choices) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("it must be one of %s", strings.Join(c.words, ", "))
	}
	*c.value = choice(s)
	return nil
}

// root is the whole command tree.
func (s *session) root() *cobra.Command {
	root := s.group("plinth",
		s.lint(),
		s.bundle(),
		s.install(),
		s.status(),
		s.console(),
		s.reset(),
		s.version(),
		s.completion(),
	)
	root.AddCommand(s.tools()...)
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
	f.StringVar(&s.dataDir, "data-dir", "/var/lib/plinth", "`folder` of Plinth's and the cluster's data")
	f.BoolVar(&s.noColor, "no-color", false, "never use colours")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "show every second what is being done, one line each")
	teach.Tree(root)
	return root
}

// action is what a command does once its flags are read.
type action func(ctx context.Context, args []string) (reply, error)

// command makes a command; its help stands in help/<path>.txt.
func (s *session) command(use string, args cobra.PositionalArgs, do action) *cobra.Command {
	return &cobra.Command{
		Use: use, Args: args, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			s.parsed = true
			s.reply, err = do(cmd.Context(), args)
			return err
		},
	}
}

// group makes a command that only holds others.
func (s *session) group(name string, children ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: name, Args: noSuchCommand, DisableFlagsInUseLine: true}
	g.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.HasParent() {
			s.parsed = true
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
