package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/agent"
	"github.com/plinthdev/plinth/internal/action/support"
	"github.com/plinthdev/plinth/internal/action/upgrade"
)

// agentCommand returns the hidden command that plinth-agent.service runs.
func (s commandSet) agentCommand() *cobra.Command {
	var stop bool
	var phase, bundle, program string
	var part support.PartOptions
	cmd := s.NewCommand("agent", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			if stop {
				return commandOutput{}, agent.StopRemovedNode(ctx, env)
			}
			if phase != "" {
				return commandOutput{}, upgrade.RunNode(ctx, env, phase, bundle, program)
			}
			if part.ID != "" {
				return commandOutput{}, support.CollectPart(ctx, env, part)
			}
			return commandOutput{}, agent.Run(ctx, env)
		}))
	cmd.Flags().BoolVar(&stop, "stop-removed-node", false, "stop k0s and its pods after the node was removed, and exit")
	cmd.Flags().StringVar(&phase, "upgrade-phase", "", "run this phase of the node's upgrade, and exit")
	cmd.Flags().StringVar(&bundle, "upgrade-bundle", "", "digest of the bundle of the upgrade")
	cmd.Flags().StringVar(&program, "upgrade-program", "", "digest of the plinth executable that upgrades the node")
	cmd.Flags().StringVar(&part.ID, "support-part", "", "collect this node's part of a support bundle with this id, and exit")
	cmd.Flags().DurationVar(&part.Since, "support-since", 0, "age of the oldest lines of logs in it")
	cmd.Flags().Int64Var(&part.Limit, "support-bytes", 0, "largest size of its content, in bytes")
	cmd.Hidden = true
	return cmd
}
