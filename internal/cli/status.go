package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/status"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) statusCommand() *cobra.Command {
	return s.NewCommand("status", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			st, err := status.Get(ctx, env)
			return newOutput(st, func(w io.Writer) { printer.WriteStatus(w, st, s.verbose) }).OrError(err)
		}))
}
