package install

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/action/upgrade"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
)

// runUpgrade upgrades the cluster of this host to the bundle. Flags that only a first install
// has are refused.
func runUpgrade(ctx context.Context, env *action.Env, opts Options, bundle source.Bundle, cfg config.Config) (Result, error) {
	if err := checkUpgradeFlags(opts); err != nil {
		return Result{}, err
	}
	res, err := upgrade.RunOpened(ctx, env, upgrade.Options{LoadOptions: opts.LoadOptions, Source: opts.Source, IgnorePreflights: opts.IgnorePreflights, Plan: opts.Plan, PlanFile: opts.PlanFile, Trace: opts.Trace, Addresses: opts.Addresses, Install: true},
		bundle, cfg)
	return Result{Changed: res.Changed, Plan: res.Plan, Inputs: res.Inputs, Preflights: res.Preflights, ConsoleURL: res.ConsoleURL, Kubeconfig: k0s.AdminConf, Log: res.Log,
		Trace: res.Trace}, err
}

// checkUpgradeFlags returns a usage problem for the flags of an install that an upgrade does not have.
func checkUpgradeFlags(opts Options) error {
	for flag, given := range map[string]bool{"--restart": opts.Restart, "--api-address": opts.APIAddress != ""} {
		if given {
			return problem.New(problem.ExitUsage, "install", errors.New("this host has a cluster with another bundle, and an upgrade has no "+flag), "omit it; nothing on this host was changed")
		}
	}
	return nil
}
