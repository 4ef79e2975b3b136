package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/nodes"
	"github.com/plinthdev/plinth/internal/app/reset"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/cli/answer/resets"
	"github.com/plinthdev/plinth/internal/cli/session"
)

func (s commands) reset() *cobra.Command {
	return s.Group("reset", s.resetCluster(), s.resetNode())
}

func (s commands) resetCluster() *cobra.Command {
	var req reset.Request
	cmd := s.resetCommand("cluster", &req, func(ctx context.Context, r *run.Run) (reset.Result, error) { return reset.Cluster(ctx, r, req) })
	cmd.Flags().StringVar(&req.Cluster, "cluster", "", "`name` of the cluster to remove; --yes requires it")
	return cmd
}

func (s commands) resetNode() *cobra.Command {
	var req reset.NodeRequest
	cmd := s.resetCommand("node", &req.Request, func(ctx context.Context, r *run.Run) (reset.Result, error) { return reset.Node(ctx, r, req) })
	f := cmd.Flags()
	f.DurationVar(&req.Timeout, "timeout", nodes.DrainTimeout, "longest `time` to wait for its pods to leave")
	f.BoolVar(&req.Force, "force", false, "continue although data is lost or no controller answers")
	return cmd
}

// newResetCommand returns a reset of the given scope with the flags that all
// scopes have.
func (s commands) resetCommand(scope string, req *reset.Request, do func(context.Context, *run.Run) (reset.Result, error)) *cobra.Command {
	cmd := s.Command(scope, session.NoArgs, s.With(session.Stream, &req.Yes,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			res, err := do(ctx, r)
			text := func(w io.Writer) { resets.Write(w, res, s.Again("--dry-run"), err != nil) }
			if err != nil && len(res.Left) == 0 {
				return session.Reply{}, err
			}
			return session.Answer(res, text), err
		}))
	f := cmd.Flags()
	f.BoolVar(&req.DryRun, "dry-run", false, "show what would be removed and its size, change nothing")
	f.BoolVarP(&req.Yes, "yes", "y", false, "do not ask for confirmation")
	f.BoolVar(&req.DeleteData, "delete-data", false, "also remove the data in volumes")
	return cmd
}
