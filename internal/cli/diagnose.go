package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/support"
	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/problem"
)

func (s commandSet) diagnoseCommand() *cobra.Command {
	return s.NewCommand("diagnose", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			r, err := support.Diagnose(ctx, env)
			return newOutput(r, func(w io.Writer) { printer.WriteDiagnosis(w, r) }).OrError(err)
		}))
}

// withDiagnosis returns do with a note of the likely cause if a step fails: what the step waited for is often only an
// effect of it.
func withDiagnosis(do verbFunc) verbFunc {
	return func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
		out, err := do(ctx, env, args)
		if problem.ExitCode(err) == problem.ExitStep && ctx.Err() == nil && env.Failpoints == nil { // a fault test fails on purpose
			if f, ok := support.LikelyCause(ctx, env); ok {
				env.Note(printer.DescribeLikelyCause(f))
			}
		}
		return out, err
	}
}
