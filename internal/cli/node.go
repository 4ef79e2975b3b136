package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/nodes"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/session"
)

func (s commandSet) nodeCommand() *cobra.Command {
	list := s.NewCommand("list", session.NoArgs, s.WithEnv(session.SingleDocument, nil,
		func(ctx context.Context, r *run.Env, _ []string) (session.Output, error) {
			v, err := nodes.List(ctx, r)
			return session.NewOutput(v, func(w io.Writer) { answer.WriteNodeList(w, v) }).OrError(err)
		}))
	return s.NewGroup("node", list, s.nodeChangeCommand("drain", nodes.Drain), s.nodeChangeCommand("remove", nodes.Remove))
}

// nodeChangeCommand returns the command for a verb that changes one node.
func (s commandSet) nodeChangeCommand(verb string, do func(context.Context, *run.Env, nodes.Request) (nodes.Result, error)) *cobra.Command {
	var req nodes.Request
	var yes bool
	cmd := s.NewCommand(verb+" NAME", session.ExactlyOne("NAME"), s.WithEnv(session.EventStream, &yes,
		func(ctx context.Context, r *run.Env, args []string) (session.Output, error) {
			req.Node = args[0]
			res, err := do(ctx, r, req)
			return session.NewOutput(res, func(w io.Writer) { answer.WriteNodeResult(w, res, verb == "remove") }).OrError(err)
		}))
	f := cmd.Flags()
	f.DurationVar(&req.Timeout, "timeout", nodes.DrainTimeout, "longest `time` to wait for its pods to leave")
	f.BoolVar(&req.Force, "force", false, "continue although data or pods are lost; without it they are listed")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask for confirmation")
	return cmd
}
