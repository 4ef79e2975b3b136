package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/problem"
)

func (s commandSet) versionCommand() *cobra.Command {
	return s.NewCommand("version", noArgs, func(context.Context, []string) (commandOutput, error) {
		b := s.BuildInfo()
		return newOutput(b, b.WriteText), nil
	})
}

func (s commandSet) completionCommand() *cobra.Command {
	var root *cobra.Command
	scripts := map[string]func(io.Writer) error{
		"bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":  func(w io.Writer) error { return root.GenZshCompletion(w) },
		"fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	}
	cmd := s.NewCommand("completion bash|zsh|fish", exactlyOne("SHELL: bash, zsh or fish"), nil)
	cmd.ValidArgs = []string{"bash", "zsh", "fish"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		root = cmd.Root()
		generate, ok := scripts[args[0]]
		if !ok {
			return newUnknownError("shell", args[0], cmd.ValidArgs)
		}
		s.Parsed = true
		if err := generate(s.Out); err != nil {
			return problem.New(problem.ExitInternal, "write the completion script", err, "")
		}
		return nil
	}
	return cmd
}
