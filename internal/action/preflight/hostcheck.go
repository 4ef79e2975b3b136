package preflight

import (
	"context"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/spec"
)

// HostCheck is what the host preflights of a verb found.
type HostCheck struct {
	Facts    facts.Facts
	Snapshot FactsSnapshot // the same, to be stored for later runs
	Report   *hostpreflight.Report
	Warnings []string // what was ignored on request, for the receipt
}

// CheckHost runs the checks of opts and those in the Installer in. It returns an error when a check failed, or the host has
// no address; the HostCheck is complete then, too, if it has a Report.
func CheckHost(ctx context.Context, env *action.Env, verb string, in *spec.Installer, opts Options) (p HostCheck, err error) {
	if opts.VendorPreflights, err = config.ParseHostPreflights(in); err != nil {
		return p, err
	}
	found, report, err := RunChecks(ctx, env, opts)
	if err != nil {
		return p, err
	}
	if p.Snapshot, err = NewFactsSnapshot(found); err != nil {
		return p, err
	}
	p.Facts, p.Report = found, &report
	for _, id := range report.IgnoredIDs() {
		p.Warnings = append(p.Warnings, "host preflight "+id+" failed and was ignored on request")
	}
	if err := report.Err(verb); err != nil {
		return p, err
	}
	return p, RequireAddress(verb, found)
}
