package cli

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/install"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/problem"
)

func (s commandSet) installCommand() *cobra.Command {
	var req install.Options
	var yes bool
	cmd := s.NewCommand("install [--bundle FILE] [--source URL]", noArgs, s.WithEnv(eventStream, &yes, withDiagnosis(
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			if err := requireAnswer(req.Bundle, yes || req.Plan); err != nil {
				return commandOutput{}, err
			}
			res, err := install.Run(ctx, env, req)
			text := func(w io.Writer) { printer.WriteInstallResult(w, res, s.CommandLineWithout("--plan"), err != nil) }
			if err != nil && res.Preflights == nil {
				return commandOutput{}, err
			}
			return newOutput(res, text), err
		})))
	f := cmd.Flags()
	addBundleFlags(f, &req.LoadOptions, &req.Source)
	f.StringVar(&req.License, "license", "", "license `file`; also installs the application")
	f.StringVar(&req.ConfigValues, "config-values", "", "`file` with the application's config values")
	f.StringVar(&req.AppBundle, "app-bundle", "", "`file` (.airgap) with the application and its images")
	f.BoolVar(&req.Plan, "plan", false, "show what would be done, change nothing")
	f.StringVar(&req.PlanFile, "plan-file", "", "do exactly the plan in `file`, from --plan -o json")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask for confirmation")
	f.BoolVar(&req.RollBackOnFailure, "rollback-on-failure", false, "roll back a first install if a step fails")
	f.BoolVar(&req.Restart, "restart", false, "roll back an unfinished install, then start again")
	f.StringVar(&req.APIAddress, "api-address", "", "`name` or address of your load balancer for the API")
	addAddressFlags(f, &req.NodeAddress)
	addIgnoreFlag(f, &req.IgnorePreflights)
	addTraceFlag(cmd, &req.Trace)
	return cmd
}

// addTraceFlag adds the flag of commands that can trace their run; a plan runs nothing.
func addTraceFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "trace", "", "write a trace of the run to `file`, for ui.perfetto.dev")
	cmd.MarkFlagsMutuallyExclusive("trace", "plan")
}

// addBundleFlags adds the flags of commands that bring a cluster to the state that a bundle defines.
func addBundleFlags(f *pflag.FlagSet, load *config.LoadOptions, src *source.Request) {
	addBundleSourceFlags(f, load, src)
	f.StringVar(&load.Application, "application", "", "KOTS Application `file`, if not in the bundle")
	f.BoolVar(&load.SkipKotsCheck, "skip-kots-compatibility-check", false, "only warn if the KOTS version gate fails")
}

// addBundleSourceFlags adds the flags that select a bundle, and the keys that verify it.
func addBundleSourceFlags(f *pflag.FlagSet, load *config.LoadOptions, src *source.Request) {
	f.StringVar(&load.Bundle, "bundle", "", "bundle `file`, - for stdin (default: the embedded one)")
	f.StringVar(&src.Source, "source", "", "`URL` of the parts of a thin bundle, or of the bundle itself")
	f.StringVar(&src.Base, "base", "", "older bundle `file`, if the bundle is a delta")
	addKeyFlags(f, src)
}

// requireAnswer returns a usage problem if the answer to a question would have to be read from the bundle.
func requireAnswer(bundle string, answered bool) error {
	if bundle != "-" || answered {
		return nil
	}
	return problem.New(problem.ExitUsage, "ask for confirmation", errors.New("standard input is the bundle"), "add --yes, or use --plan to see what would be done")
}

// addIgnoreFlag adds the flag of all commands that run host preflights.
func addIgnoreFlag(f *pflag.FlagSet, ids *[]string) {
	f.StringSliceVar(ids, "ignore-host-preflight", nil, "`ids` of preflights whose failure is only a warning")
}

// addAddressFlags adds the flags that choose the node's address.
func addAddressFlags(f *pflag.FlagSet, a *preflight.AddressFlags) {
	f.StringVar(&a.Address, "address", "", "IPv4 `address` at which other hosts reach this one")
	f.StringVar(&a.Interface, "network-interface", "", "`name` of the interface with that address")
}

// addKeyFlags adds the flags that decide which signatures are trusted.
func addKeyFlags(f *pflag.FlagSet, req *source.Request) {
	f.StringVar(&req.VerifyKey, "verify-key", "", "vendor's public key `file` (default: the embedded one)")
	f.StringVar(&req.KeyRotation, "key-rotation", "", "signed `file` in which the vendor announces a new key")
	f.BoolVar(&req.AllowUnsigned, "allow-unsigned", false, "accept a bundle without a trusted signature")
}
