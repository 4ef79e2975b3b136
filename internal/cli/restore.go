package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/restore"
	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/problem"
)

func (s commandSet) restoreCommand() *cobra.Command {
	var opts restore.Options
	var yes bool
	cmd := s.NewCommand("restore --control-plane FILE | --from-this-node", noArgs, s.WithEnv(eventStream, &yes,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			if opts.ControlPlane == "" && !opts.FromThisNode {
				return commandOutput{}, problem.New(problem.ExitUsage, "restore the control plane", errors.New("nothing to restore from is given"),
					"add --control-plane FILE, or on a controller that survived: --from-this-node")
			}
			if (opts.Key.IdentityFile == "-" || opts.Key.PassphraseFile == "-") && !yes && !opts.Plan {
				return commandOutput{}, problem.New(problem.ExitUsage, "ask for confirmation", errors.New("standard input is the key"),
					"add --yes, or use --plan to see what would be done")
			}
			s.prepareKeyFlags(&opts.Key)
			opts.Store = opts.Store.WithEnvironment(os.Getenv)
			res, err := restore.Run(ctx, env, opts)
			return newOutput(res, func(w io.Writer) { printer.WriteRestoreResult(w, res, s.CommandLineWithout("--plan")) }).OrError(err)
		}))
	f := cmd.Flags()
	f.StringVar(&opts.ControlPlane, "control-plane", "", "backup `file` of the control plane, or s3://BUCKET/NAME")
	f.BoolVar(&opts.FromThisNode, "from-this-node", false, "use the data of etcd on this host instead of a backup")
	f.BoolVar(&opts.RemoveLost, "remove-lost-controllers", false, "remove all other controllers from the cluster, and their volumes")
	f.BoolVar(&opts.Plan, "plan", false, "show what would be done, change nothing")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask for confirmation")
	addKeyFileFlags(cmd, &opts.Key)
	addStoreFlags(cmd, &opts.Store)
	cmd.MarkFlagsMutuallyExclusive("control-plane", "from-this-node")
	return cmd
}
