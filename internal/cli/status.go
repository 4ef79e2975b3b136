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

func (s commands) status() *cobra.Command {
	return s.Command("status", session.NoArgs, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			st, err := status.Of(ctx, r)
			return session.Answer(st, func(w io.Writer) { answer.Status(w, st) }).Unless(err)
		}))
}
