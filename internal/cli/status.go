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
	return s.NewCommand("status", NoArgs, s.WithEnv(SingleDocument, nil,
		func(ctx context.Context, r *action.Env, _ []string) (Output, error) {
			st, err := status.Get(ctx, r)
			return NewOutput(st, func(w io.Writer) { printer.WriteStatus(w, st) }).OrError(err)
		}))
}
