package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/repair"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) repairCommand() *cobra.Command {
	return s.NewGroup("repair", s.repairAddressCommand())
}

func (s commandSet) repairAddressCommand() *cobra.Command {
	var opts repair.Options
	var yes bool
	cmd := s.NewCommand("address", noArgs, s.WithEnv(eventStream, &yes, withDiagnosis(
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			res, err := repair.Run(ctx, env, opts)
			return newOutput(res, func(w io.Writer) { printer.WriteRepairResult(w, res, s.CommandLineWithout("--plan")) }).OrError(err)
		})))
	f := cmd.Flags()
	addAddressFlags(f, &opts.NodeAddress)
	f.BoolVar(&opts.Plan, "plan", false, "show what would be done, change nothing")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask for confirmation")
	return cmd
}
