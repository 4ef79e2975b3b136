package cli

import (
	"context"
	"errors"
	"io"
	"strings"

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
	var existing existingFlags
	var yes bool
	onThisHost := withDiagnosis(func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
		res, err := install.Run(ctx, env, req)
		text := func(w io.Writer) { printer.WriteInstallResult(w, res, s.CommandLineWithout("--plan"), err != nil) }
		if err != nil && res.Preflights == nil {
			return commandOutput{}, err
		}
		return newOutput(res, text), err
	})
	cmd := s.NewCommand("install [--bundle FILE] [--source URL]", existing.check, s.WithEnv(eventStream, &yes,
		func(ctx context.Context, env *action.Env, args []string) (commandOutput, error) {
			if err := requireAnswer(req.Bundle, yes || req.Plan); err != nil {
				return commandOutput{}, err
			}
			if existing.on {
				return s.installInExisting(ctx, env, existing.options(req))
			}
			return onThisHost(ctx, env, args)
		}))
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
	addBalancerFlag(f, &req.Addresses)
	addAddressFlags(f, &req.NodeAddress)
	addFirewallFlag(f, &req.ConfigureFirewall)
	addIgnoreFlag(f, &req.IgnorePreflights)
	addTraceFlag(cmd, &req.Trace)
	existing.add(cmd)
	return cmd
}

// existingFlags are the flags of an install in a cluster that Plinth did not create. Only the first is in the help, which
// fits one screen; the guide has the others.
type existingFlags struct {
	on         bool
	kubeconfig string
	registry   install.RegistryFlags
}

// add adds the flags to cmd. Flags that are about this host exclude them.
func (e *existingFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&e.on, "existing-cluster", false, "install in an existing cluster without root (see the guide)")
	f.StringVar(&e.kubeconfig, "kubeconfig", "", "kubeconfig `file` of the existing cluster")
	f.StringVar(&e.registry.Address, "registry", "", "`registry`, and a path in it, for the images")
	f.StringVar(&e.registry.Username, "registry-username", "", "`name` of the user of the registry")
	f.StringVar(&e.registry.PasswordFile, "registry-password-file", "", "`file` with the password of that user")
	f.StringVar(&e.registry.CA, "registry-ca", "", "`file` with the certificate authority of the registry")
	for _, name := range []string{"kubeconfig", "registry", "registry-username", "registry-password-file", "registry-ca"} {
		f.Lookup(name).Hidden = true
	}
}

// check refuses arguments, and flags that make no sense together.
func (e *existingFlags) check(cmd *cobra.Command, args []string) error {
	if err := noArgs(cmd, args); err != nil {
		return err
	}
	changed := func(names ...string) (set, unset []string) {
		for _, name := range names {
			if f := cmd.Flag(name); f != nil && f.Changed {
				set = append(set, "--"+name)
			} else {
				unset = append(unset, "--"+name)
			}
		}
		return set, unset
	}
	if !e.on {
		if set, _ := changed("kubeconfig", "registry", "registry-username", "registry-password-file", "registry-ca"); len(set) > 0 {
			return errors.New(set[0] + " needs --existing-cluster: the cluster on this host has a registry of its own")
		}
		return nil
	}
	hostFlags, _ := changed("address", "network-interface", "configure-firewall", "api-address", "load-balancer-addresses", "ignore-host-preflight", "plan-file", "restart", "rollback-on-failure", "trace", "data-dir")
	_, missing := changed("kubeconfig", "registry")
	login, _ := changed("registry-username", "registry-password-file")
	switch {
	case len(hostFlags) > 0:
		return errors.New(hostFlags[0] + " is for this host, which --existing-cluster does not change")
	case len(missing) > 0:
		return errors.New("--existing-cluster needs " + strings.Join(missing, " and "))
	case len(login) == 1:
		return errors.New("--registry-username and --registry-password-file need each other")
	}
	return nil
}

// options returns the options of the install, of which req has those that every install has.
func (e *existingFlags) options(req install.Options) install.ExistingOptions {
	return install.ExistingOptions{LoadOptions: req.LoadOptions, Source: req.Source, Kubeconfig: e.kubeconfig, Registry: e.registry, Plan: req.Plan}
}

// installInExisting installs in a cluster that Plinth did not create.
func (s commandSet) installInExisting(ctx context.Context, env *action.Env, opts install.ExistingOptions) (commandOutput, error) {
	res, err := install.RunExisting(ctx, env, opts)
	return newOutput(res, func(w io.Writer) { printer.WriteExistingResult(w, res, s.CommandLineWithout("--plan")) }).OrError(err)
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

// addBalancerFlag adds the flag that chooses the addresses of the load balancer.
func addBalancerFlag(f *pflag.FlagSet, ranges *[]string) {
	f.StringSliceVar(ranges, "load-balancer-addresses", nil, "`ranges` of free addresses for services")
}

// addAddressFlags adds the flags that choose the node's address.
func addAddressFlags(f *pflag.FlagSet, a *preflight.AddressFlags) {
	f.StringVar(&a.Address, "address", "", "IPv4 `address` at which other hosts reach this one")
	f.StringVar(&a.Interface, "network-interface", "", "`name` of the interface with that address")
}

// addFirewallFlag adds the flag of commands that may add rules to the firewalls of the host.
func addFirewallFlag(f *pflag.FlagSet, networks *string) {
	const name = "configure-firewall"
	f.Var((*firewallValue)(networks), name, "let the cluster through firewalls (=CIDR,… of its nodes)")
	f.Lookup(name).NoOptDefVal = "true"
}

// firewallValue is the value of --configure-firewall: a switch, or the networks of the nodes. It is what
// preflight.NewFirewall takes.
type firewallValue string

// String returns the value.
func (v *firewallValue) String() string { return string(*v) }

// Set sets the value.
func (v *firewallValue) Set(text string) error {
	switch text {
	case "true":
		*v = preflight.OwnNetwork
	case "", "false":
		*v = ""
	default:
		*v = firewallValue(text)
	}
	return nil
}

// Type returns the type of a switch, so that the help names no value.
func (v *firewallValue) Type() string { return "bool" }

// addKeyFlags adds the flags that decide which signatures are trusted.
func addKeyFlags(f *pflag.FlagSet, req *source.Request) {
	f.StringVar(&req.VerifyKey, "verify-key", "", "vendor's public key `file` (default: the embedded one)")
	f.StringVar(&req.KeyRotation, "key-rotation", "", "signed `file` in which the vendor announces a new key")
	f.BoolVar(&req.AllowUnsigned, "allow-unsigned", false, "accept a bundle without a trusted signature")
}
