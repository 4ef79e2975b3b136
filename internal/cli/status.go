package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/status"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/session"
)

func (s commandSet) statusCommand() *cobra.Command {
	return s.NewCommand("status", session.NoArgs, s.WithEnv(session.SingleDocument, nil,
		func(ctx context.Context, r *run.Env, _ []string) (session.Output, error) {
			st, err := status.Get(ctx, r)
			return session.NewOutput(st, func(w io.Writer) { answer.WriteStatus(w, st) }).OrError(err)
		}))
}
