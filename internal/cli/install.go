package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/install"
	"github.com/plinthdev/plinth/internal/app/reset"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/status"
	"github.com/plinthdev/plinth/internal/cli/answer"
)

func (s *session) install() *cobra.Command {
	var req install.Request
	var yes bool
	cmd := s.command("install --bundle FILE", noArgs, s.with(stream, &yes,
		func(ctx context.Context, r *run.Run, _ []string) (reply, error) {
			res, err := install.Install(ctx, r, req)
			if p := res.Preflights; p != nil && p.Schema == 0 {
				res.Preflights = nil // it did not come to that
			}
			text := func(w io.Writer) { answer.Installed(w, res, s.again("--plan"), err != nil) }
			if err != nil && res.Preflights == nil {
				return reply{}, err
			}
			return reply{res, text}, err
		}))
	f := cmd.Flags()
	f.StringVar(&req.Bundle, "bundle", "", "`file` with all that is to be installed")
	f.StringVar(&req.Application, "application", "", "`file` with the KOTS Application, if the bundle has none")
	f.StringVar(&req.License, "license", "", "`file` with the application's licence; installs the application")
	f.StringVar(&req.ConfigValues, "config-values", "", "`file` with the application's settings")
	f.StringVar(&req.AppBundle, "app-bundle", "", "`file` (.airgap) with the application and its images")
	f.BoolVar(&req.Plan, "plan", false, "only say what would be done")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask before the first change")
	f.StringSliceVar(&req.IgnorePreflights, "ignore-host-preflight", nil, "`ids` of host preflights that may fail; they become warnings")
	f.BoolVar(&req.SkipKotsCheck, "skip-kots-compatibility-check", false, "make the KOTS version gate's refusal a warning")
	return cmd
}

func (s *session) status() *cobra.Command {
	return s.command("status", noArgs, s.with(once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (reply, error) {
			st, err := status.Of(ctx, r)
			return reply{st, func(w io.Writer) { answer.Status(w, st) }}.unless(err)
		}))
}

func (s *session) reset() *cobra.Command {
	var req reset.Request
	var yes bool
	cmd := s.command("cluster", noArgs, s.with(stream, &yes,
		func(ctx context.Context, r *run.Run, _ []string) (reply, error) {
			res, err := reset.Cluster(ctx, r, req)
			text := func(w io.Writer) { answer.Reset(w, res, s.again("--dry-run"), err != nil) }
			if err != nil && len(res.Left) == 0 {
				return reply{}, err
			}
			return reply{res, text}, err
		}))
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "only say what would be removed")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before the first change")
	return s.group("reset", cmd)
}

// again is the command line without a flag.
func (s *session) again(without string) string {
	line := "plinth"
	for _, a := range s.args {
		if a != without {
			line += " " + answer.Quote(a)
		}
	}
	return line
}
