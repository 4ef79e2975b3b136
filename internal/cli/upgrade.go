package cli

import (
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/upgrade"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) upgradeCommand() *cobra.Command {
	var req upgrade.Options
	var yes, rollback, commit bool
	cmd := s.NewCommand("upgrade [--bundle FILE] [--source URL] | --rollback | --commit", noArgs, s.WithEnv(eventStream, &yes, withDiagnosis(
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			if err := requireAnswer(req.Bundle, yes || req.Plan); err != nil {
				return commandOutput{}, err
			}
			var res upgrade.Result
			var err error
			switch {
			case rollback:
				res, err = upgrade.Rollback(ctx, env, upgrade.RollbackOptions{Plan: req.Plan, SkipNodes: req.SkipNodes})
			case commit:
				res, err = upgrade.Commit(ctx, env)
			default:
				res, err = upgrade.Run(ctx, env, req)
			}
			text := func(w io.Writer) { printer.WriteUpgradeResult(w, res, s.CommandLineWithout("--plan"), err != nil) }
			if err != nil && res.Preflights == nil && !res.RolledBack {
				return commandOutput{}, err
			}
			return newOutput(res, text), err
		})))
	f := cmd.Flags()
	addBundleFlags(f, &req.LoadOptions, &req.Source)
	f.BoolVar(&req.Plan, "plan", false, "show what would be done, change nothing")
	f.StringVar(&req.PlanFile, "plan-file", "", "do exactly the plan in `file`, from --plan -o json")
	f.BoolVar(&rollback, "rollback", false, "restore the state before the last upgrade")
	f.BoolVar(&commit, "commit", false, "remove the snapshot that --rollback needs")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask for confirmation")
	addIgnoreFlag(f, &req.IgnorePreflights)
	addBalancerFlag(f, &req.Addresses)
	f.BoolVar(&req.NoDrain, "no-drain", false, "restart k0s under running pods")
	f.StringSliceVar(&req.SkipNodes, "skip-node", nil, "leave this `node` out; may be repeated")
	f.IntVar(&req.MaxUnavailable, "max-unavailable", 1, "workers to upgrade at the same time")
	addTraceFlag(cmd, &req.Trace)
	f.VisitAll(func(flag *pflag.Flag) { // what a rollback and a commit have no use for
		if !slices.Contains([]string{"rollback", "commit", "plan", "skip-node", "yes"}, flag.Name) {
			cmd.MarkFlagsMutuallyExclusive("rollback", "commit", flag.Name)
		}
	})
	cmd.MarkFlagsMutuallyExclusive("commit", "plan")
	cmd.MarkFlagsMutuallyExclusive("commit", "skip-node")
	return cmd
}
