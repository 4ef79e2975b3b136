package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) addonsCommand() *cobra.Command {
	list := s.NewCommand("list", noArgs, s.WithEnv(singleDocument, nil,
		func(context.Context, *action.Env, []string) (commandOutput, error) {
			all, err := config.ListAddOns()
			return newOutput(all, func(w io.Writer) { printer.WriteAddOnList(w, all) }).OrError(err)
		}))
	var version string
	show := s.NewCommand("show NAME", exactlyOne("NAME"), s.WithEnv(singleDocument, nil,
		func(_ context.Context, _ *action.Env, args []string) (commandOutput, error) {
			info, err := config.DescribeAddOn(args[0], version)
			return newOutput(info, func(w io.Writer) { printer.WriteAddOn(w, info) }).OrError(err)
		}))
	show.Flags().StringVar(&version, "addon-version", "", "`version` whose images to show (default the newest)")
	return s.NewGroup("addons", list, show)
}
