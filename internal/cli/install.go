package cli

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/plinthdev/plinth/internal/app/delivery"
	"github.com/plinthdev/plinth/internal/app/install"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/status"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/session"
	"github.com/plinthdev/plinth/internal/problem"
)

func (s commands) install() *cobra.Command {
	var req install.Request
	var yes bool
	cmd := s.Command("install [--bundle FILE] [--source URL]", session.NoArgs, s.With(session.Stream, &yes,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			if req.Bundle == "-" && !yes && !req.Plan {
				return session.Reply{}, problem.New(problem.ExitUsage, "ask before the first change", errors.New("standard input is the bundle"), "add --yes, or look first with --plan")
			}
			res, err := install.Install(ctx, r, req)
			text := func(w io.Writer) { answer.Installed(w, res, s.Again("--plan"), err != nil) }
			if err != nil && res.Preflights == nil {
				return session.Reply{}, err
			}
			return session.Answer(res, text), err
		}))
	f := cmd.Flags()
	f.StringVar(&req.Bundle, "bundle", "", "`file` with all that is to be installed, - for standard input (default: the one sealed onto this executable)")
	f.StringVar(&req.Delivery.Source, "source", "", "`URL` with what a thin bundle leaves out, and without --bundle with the bundle itself")
	f.StringVar(&req.Delivery.Base, "base", "", "`file` with the older bundle, if the bundle is a delta to it")
	keyFlags(f, &req.Delivery)
	f.StringVar(&req.Application, "application", "", "`file` with the KOTS Application, if the bundle has none")
	f.StringVar(&req.License, "license", "", "`file` with the application's licence; installs the application")
	f.StringVar(&req.ConfigValues, "config-values", "", "`file` with the application's settings")
	f.StringVar(&req.AppBundle, "app-bundle", "", "`file` (.airgap) with the application and its images")
	f.BoolVar(&req.Plan, "plan", false, "only say what would be done")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask before the first change")
	f.StringVar(&req.PlanFile, "plan-file", "", "`file` with a plan that --plan -o json printed: exactly that is done, or nothing")
	f.BoolVar(&req.RollBack, "rollback-on-failure", false, "take a first install back when a step of it fails")
	f.BoolVar(&req.Restart, "restart", false, "take back an unfinished install that was asked for something else, and begin anew")
	f.StringVar(&req.APIAddress, "api-address", "", "further `name` or address of the API, of a load balancer of yours before the controllers")
	ignoring(f, &req.IgnorePreflights)
	f.BoolVar(&req.SkipKotsCheck, "skip-kots-compatibility-check", false, "make the KOTS version gate's refusal a warning")
	return cmd
}

// ignoring is the flag of all commands that ask the host preflights.
func ignoring(f *pflag.FlagSet, ids *[]string) {
	f.StringSliceVar(ids, "ignore-host-preflight", nil, "`ids` of host preflights that may fail; they become warnings")
}

// keyFlags are those that say whose bundles are taken.
func keyFlags(f *pflag.FlagSet, req *delivery.Request) {
	f.StringVar(&req.VerifyKey, "verify-key", "", "`file` with the vendor's public key (default: the one sealed onto this executable)")
	f.StringVar(&req.KeyRotation, "key-rotation", "", "`file` with the vendor's statement that this key follows the one known here")
	f.BoolVar(&req.AllowUnsigned, "allow-unsigned", false, "take the bundle even if no known key proves whose it is")
}

func (s commands) status() *cobra.Command {
	return s.Command("status", session.NoArgs, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			st, err := status.Of(ctx, r)
			return session.Answer(st, func(w io.Writer) { answer.Status(w, st) }).Unless(err)
		}))
}
