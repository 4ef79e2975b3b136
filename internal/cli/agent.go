package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/serve"
	"github.com/plinthdev/plinth/internal/cli/session"
)

// agentCommand returns the hidden command that plinth-agent.service runs.
func (s commandSet) agentCommand() *cobra.Command {
	cmd := s.NewCommand("agent", session.NoArgs, s.WithEnv(session.SingleDocument, nil,
		func(ctx context.Context, r *run.Env, _ []string) (session.Output, error) {
			return session.Output{}, serve.Run(ctx, r)
		}))
	cmd.Hidden = true
	return cmd
}
