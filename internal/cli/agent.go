package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/agent"
)

// agentCommand returns the hidden command that plinth-agent.service runs.
func (s commandSet) agentCommand() *cobra.Command {
	var stop bool
	cmd := s.NewCommand("agent", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			if stop {
				return commandOutput{}, agent.StopRemovedNode(ctx, env)
			}
			return commandOutput{}, agent.Run(ctx, env)
		}))
	cmd.Flags().BoolVar(&stop, "stop-removed-node", false, "stop k0s and its pods after the node was removed, and exit")
	cmd.Hidden = true
	return cmd
}
