package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/serve"
	"github.com/plinthdev/plinth/internal/cli/session"
)

// agentCommand returns the hidden command that plinth-agent.service runs.
func (s commands) agent() *cobra.Command {
	cmd := s.Command("agent", session.NoArgs, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			return session.Reply{}, serve.Agent(ctx, r)
		}))
	cmd.Hidden = true
	return cmd
}
