package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/certificates"
	"github.com/plinthdev/plinth/internal/cli/printer"
)

func (s commandSet) certificatesCommand() *cobra.Command {
	list := s.NewCommand("list", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			all, err := certificates.List(ctx, env)
			return newOutput(all, func(w io.Writer) { printer.WriteCertificateList(w, all) }).OrError(err)
		}))
	return s.NewGroup("certificates", list, s.renewCertificatesCommand())
}

func (s commandSet) renewCertificatesCommand() *cobra.Command {
	var req certificates.Request
	var yes bool
	cmd := s.NewCommand("renew [NAME...]", cobra.ArbitraryArgs, s.WithEnv(eventStream, &yes,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			req.Names = args
			res, err := certificates.Renew(ctx, env, req)
			text := func(w io.Writer) { printer.WriteRenewalResult(w, res, s.CommandLineWithout("--plan")) }
			if err != nil && len(res.Renewed) == 0 {
				return commandOutput{}, err
			}
			return newOutput(res, text), err
		}))
	f := cmd.Flags()
	f.BoolVar(&req.All, "all", false, "renew all that can be renewed on this host")
	f.BoolVar(&req.Plan, "plan", false, "show what would be done, change nothing")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask for confirmation")
	return cmd
}
