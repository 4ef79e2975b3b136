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

func (s commands) node() *cobra.Command {
	list := s.Command("list", session.NoArgs, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			v, err := nodes.List(ctx, r)
			return session.Answer(v, func(w io.Writer) { answer.NodeList(w, v) }).Unless(err)
		}))
	return s.Group("node", list, s.nodeChange("drain", nodes.Drain), s.nodeChange("remove", nodes.Remove))
}

// nodeChangeCommand returns the command for a verb that changes one node.
func (s commands) nodeChange(verb string, do func(context.Context, *run.Run, nodes.Request) (nodes.Result, error)) *cobra.Command {
	var req nodes.Request
	var yes bool
	cmd := s.Command(verb+" NAME", session.Exactly("NAME"), s.With(session.Stream, &yes,
		func(ctx context.Context, r *run.Run, args []string) (session.Reply, error) {
			req.Node = args[0]
			res, err := do(ctx, r, req)
			return session.Answer(res, func(w io.Writer) { answer.NodeChanged(w, res, verb == "remove") }).Unless(err)
		}))
	f := cmd.Flags()
	f.DurationVar(&req.Timeout, "timeout", nodes.DrainTimeout, "longest `time` to wait for its pods to leave")
	f.BoolVar(&req.Force, "force", false, "continue although data or pods are lost; without it they are listed")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask for confirmation")
	return cmd
}
