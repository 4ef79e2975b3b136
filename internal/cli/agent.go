package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/agent"
)

// agentCommand returns the hidden command that plinth-agent.service runs.
func (s commandSet) agentCommand() *cobra.Command {
	cmd := s.NewCommand("agent", NoArgs, s.WithEnv(SingleDocument, nil,
		func(ctx context.Context, r *action.Env, _ []string) (Output, error) {
			return Output{}, agent.Run(ctx, r)
		}))
	cmd.Hidden = true
	return cmd
}
