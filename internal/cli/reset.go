package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/action/reset"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) resetCommand() *cobra.Command {
	return s.NewGroup("reset", s.resetClusterCommand(), s.resetNodeCommand())
}

func (s commandSet) resetClusterCommand() *cobra.Command {
	var req reset.Options
	cmd := s.newResetCommand("cluster", &req, func(ctx context.Context, env *action.Env) (reset.Result, error) {
		return reset.RunCluster(ctx, env, req)
	})
	cmd.Flags().StringVar(&req.Cluster, "cluster", "", "`name` of the cluster to remove; --yes requires it")
	return cmd
}

func (s commandSet) resetNodeCommand() *cobra.Command {
	var req reset.NodeOptions
	cmd := s.newResetCommand("node", &req.Options, func(ctx context.Context, env *action.Env) (reset.Result, error) { return reset.RunNode(ctx, env, req) })
	f := cmd.Flags()
	f.DurationVar(&req.Timeout, "timeout", nodes.DrainTimeout, "longest `time` to wait for its pods to leave")
	f.BoolVar(&req.Force, "force", false, "continue although data is lost or no controller answers")
	return cmd
}

// newResetCommand returns a reset of the given scope with the flags that all
// scopes have.
func (s commandSet) newResetCommand(scope string, req *reset.Options, do func(context.Context, *action.Env) (reset.Result, error)) *cobra.Command {
	cmd := s.NewCommand(scope, noArgs, s.WithEnv(eventStream, &req.Yes,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			res, err := do(ctx, env)
			text := func(w io.Writer) { printer.WriteResetResult(w, res, s.CommandLineWithout("--dry-run"), err != nil) }
			if err != nil && len(res.Leftovers) == 0 {
				return commandOutput{}, err
			}
			return newOutput(res, text), err
		}))
	f := cmd.Flags()
	f.BoolVar(&req.DryRun, "dry-run", false, "show what would be removed and its size, change nothing")
	f.BoolVarP(&req.Yes, "yes", "y", false, "do not ask for confirmation")
	f.BoolVar(&req.DeleteData, "delete-data", false, "also remove the data in volumes")
	return cmd
}
