package cli

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/support"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) supportBundleCommand() *cobra.Command {
	var o support.BundleOptions
	cmd := s.NewCommand("support-bundle [--nodes all|NAME,...] [--to FILE] [--spec FILE] [--recipient KEY]", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			var err error
			if o.Dir, err = os.Getwd(); err != nil {
				return commandOutput{}, err
			}
			r, err := support.CreateBundle(ctx, env, o)
			return newOutput(r, func(w io.Writer) { printer.WriteSupportBundle(w, r) }).OrError(err)
		}))
	f := cmd.Flags()
	f.StringVar(&o.To, "to", "", "`file` to write (default: a new one in the current folder)")
	f.DurationVar(&o.Since, "since", 24*time.Hour, "`duration` back from now for the logs")
	f.StringSliceVar(&o.Nodes, "nodes", nil, "`names` of other nodes to collect from, on a controller (default: all)")
	f.StringArrayVar(&o.Specs, "spec", nil, "`file` with specs of troubleshoot.sh to collect and remove more; repeatable")
	f.StringArrayVar(&o.Recipients, "recipient", nil, "encrypt to this public `key` of age, or file with such keys; repeatable")
	return cmd
}
