package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/cli/session"
	"github.com/plinthdev/plinth/internal/problem"
)

func (s commands) version() *cobra.Command {
	return s.Command("version", session.NoArgs, func(context.Context, []string) (session.Reply, error) {
		b := s.Build()
		return session.Answer(b, b.Text), nil
	})
}

func (s commands) completion() *cobra.Command {
	var root *cobra.Command
	scripts := map[string]func(io.Writer) error{
		"bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":  func(w io.Writer) error { return root.GenZshCompletion(w) },
		"fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	}
	cmd := s.Command("completion bash|zsh|fish", session.Exactly("SHELL: bash, zsh or fish"), nil)
	cmd.ValidArgs = []string{"bash", "zsh", "fish"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		root = cmd.Root()
		generate, ok := scripts[args[0]]
		if !ok {
			return session.Unknown("shell", args[0], cmd.ValidArgs)
		}
		s.Parsed = true
		if err := generate(s.Out); err != nil {
			return problem.New(problem.ExitInternal, "write the completion script", err, "")
		}
		return nil
	}
	return cmd
}
