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
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/problem"
)

func (s commandSet) restoreCommand() *cobra.Command {
	var opts restore.Options
	var yes bool
	cmd := s.NewCommand("restore --from URL|FOLDER | --control-plane FILE | --from-this-node", noArgs, s.WithEnv(eventStream, &yes, withDiagnosis(
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			if err := checkRestoreFlags(opts, yes || opts.Plan); err != nil {
				return commandOutput{}, err
			}
			s.prepareKeyFlags(&opts.Key)
			opts.Store = opts.Store.WithEnvironment(os.Getenv)
			res, err := restore.Run(ctx, env, opts)
			text := func(w io.Writer) { printer.WriteRestoreResult(w, res, s.CommandLineWithout("--plan"), err != nil) }
			if err != nil && (res.NewHost == nil || res.NewHost.Preflights == nil) {
				return commandOutput{}, err
			}
			return newOutput(res, text), err
		})))
	f := cmd.Flags()
	f.StringVar(&opts.From, "from", "", "`store` with snapshots: s3://BUCKET/PREFIX, or a folder")
	f.StringVar(&opts.Snapshot, "snapshot", "", "`name` of the snapshot (default: the newest that can be restored)")
	f.StringVar(&opts.AppBundle, "app-bundle", "", "`file` (.airgap) with images that the store lacks")
	f.StringVar(&opts.ControlPlane, "control-plane", "", "backup `file` of the control plane, or s3://BUCKET/NAME")
	f.BoolVar(&opts.FromThisNode, "from-this-node", false, "use the data of etcd on this host instead of a backup")
	f.BoolVar(&opts.RemoveLost, "remove-lost-controllers", false, "remove all other controllers from the cluster, and their volumes")
	f.BoolVar(&opts.Plan, "plan", false, "show what would be done, change nothing")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask for confirmation")
	addKeyFileFlags(cmd, &opts.Key)
	addStoreFlags(cmd, &opts.Store)
	addBundleSourceFlags(f, &opts.Install.LoadOptions, &opts.Install.Source)
	f.StringVar(&opts.Install.APIAddress, "api-address", "", "`name` or address of your load balancer for the API")
	addBalancerFlag(f, &opts.Install.Addresses)
	f.Lookup("load-balancer-addresses").Hidden = true // the help fits one screen; the guide has it
	addAddressFlags(f, &opts.Install.NodeAddress)
	addFirewallFlag(f, &opts.Install.ConfigureFirewall)
	addIgnoreFlag(f, &opts.Install.IgnorePreflights)
	cmd.MarkFlagsMutuallyExclusive("from", "control-plane", "from-this-node")
	return cmd
}

// checkRestoreFlags returns a usage problem for flags that name no data, that do not fit each other, or that name more than
// one input that comes from standard input. answered means that no question is asked.
func checkRestoreFlags(opts restore.Options, answered bool) error {
	hasKey := opts.Key.IdentityFile != "" || opts.Key.PassphraseFile != ""
	keyFromInput := opts.Key.IdentityFile == "-" || opts.Key.PassphraseFile == "-"
	for _, c := range []struct {
		refused     bool
		cause, hint string
	}{
		{opts.From == "" && opts.ControlPlane == "" && !opts.FromThisNode, "nothing to restore from is given",
			"add --from URL|FOLDER for a snapshot, --control-plane FILE for a backup or, on a controller that survived, --from-this-node"},
		{opts.Snapshot != "" && opts.From == "", "--snapshot needs --from", "add --from URL|FOLDER"},
		{opts.AppBundle != "" && opts.From == "", "--app-bundle needs --from: a backup of the control plane has no application", "add --from URL|FOLDER, or omit it"},
		{opts.RemoveLost && opts.From != "", "a snapshot has no controllers", "omit --remove-lost-controllers"},
		{hasKey && opts.ControlPlane == "", "only a backup of the control plane is encrypted to a key", "add --control-plane FILE, or omit --identity-file and --passphrase-file"},
		{opts.FromThisNode && opts.Store != (objectstore.Settings{}), "the data of this host are in no object store", "omit the --s3- flags, or add --control-plane s3://BUCKET/NAME instead of --from-this-node"},
		{keyFromInput && opts.Install.Bundle == "-", "both the bundle and the key are read from standard input", "name a file for one of them"},
	} {
		if c.refused {
			return problem.New(problem.ExitUsage, "restore", errors.New(c.cause), c.hint)
		}
	}
	if keyFromInput && !answered {
		return problem.New(problem.ExitUsage, "ask for confirmation", errors.New("standard input is the key"),
			"add --yes, or use --plan to see what would be done")
	}
	return requireAnswer(opts.Install.Bundle, answered)
}
