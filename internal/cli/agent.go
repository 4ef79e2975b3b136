package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/agent"
)

// agentCommand returns the hidden command that plinth-agent.service runs.
func (s commandSet) agentCommand() *cobra.Command {
	cmd := s.NewCommand("agent", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			return commandOutput{}, agent.Run(ctx, env)
		}))
	cmd.Hidden = true
	return cmd
}
