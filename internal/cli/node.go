package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) nodeCommand() *cobra.Command {
	list := s.NewCommand("list", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			v, err := nodes.List(ctx, env)
			return newOutput(v, func(w io.Writer) { printer.WriteNodeList(w, v) }).OrError(err)
		}))
	return s.NewGroup("node", list, s.nodeChangeCommand("drain", nodes.Drain), s.nodeChangeCommand("remove", nodes.Remove))
}

// nodeChangeCommand returns the command for a verb that changes one node.
func (s commandSet) nodeChangeCommand(verb string, do func(context.Context, *action.Env, nodes.Request) (nodes.Result, error)) *cobra.Command {
	var req nodes.Request
	var yes bool
	cmd := s.NewCommand(verb+" NAME", exactlyOne("NAME"), s.WithEnv(eventStream, &yes,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			req.Node = args[0]
			res, err := do(ctx, env, req)
			return newOutput(res, func(w io.Writer) { printer.WriteNodeResult(w, res, verb == "remove") }).OrError(err)
		}))
	f := cmd.Flags()
	f.DurationVar(&req.Timeout, "timeout", nodes.DrainTimeout, "longest `time` to wait for its pods to leave")
	f.BoolVar(&req.Force, "force", false, "continue although data or pods are lost; without it they are listed")
	f.BoolVar(&req.Plan, "plan", false, "show what would be done, change nothing")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask for confirmation")
	return cmd
}
