package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/support"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) diagnoseCommand() *cobra.Command {
	return s.NewCommand("diagnose", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			r, err := support.Diagnose(ctx, env)
			return newOutput(r, func(w io.Writer) { printer.WriteDiagnosis(w, r) }).OrError(err)
		}))
}
