package install

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
)

// hostState is the known state of this host before an install changes it.
type hostState struct {
	journal    *journal.Journal
	receipt    journal.Receipt       // zero when nothing is installed
	address    netip.Addr            // address at which other hosts reach this one
	node       string                // Kubernetes name of this host
	apiAddress string                // additional name or address of the Kubernetes API; "" for none
	preflights *hostpreflight.Report // nil until the preflights have run
	addOns     []addons.AddOn
	warnings   []string // what was skipped or ignored on request, for the receipt
	agent      node.Artifact
	facts      map[string]string       // facts on which a plan depends, by the names used in messages
	snapshot   preflight.FactsSnapshot // facts, stored for later runs
}

// target returns the description of this host that the steps of an install need.
func (o operation) target(s hostState, m config.Config) desired.Target {
	podCIDR := netip.MustParsePrefix(m.Installer.Spec.Network.PodCIDR) // lint has parsed it
	return desired.Target{Host: o.Host, Journal: s.journal, Now: o.Now, DataDir: o.DataDir, Node: s.node, Address: s.address, API: s.apiAddress,
		AddOns: s.addOns, Cleanup: o.CleanupScope(podCIDR), Agent: s.agent}
}

// inspect reads the state of earlier runs and checks the version gate. It changes
// nothing and does not gather facts of the host yet.
func (o operation) inspect(ctx context.Context, j *journal.Journal, m config.Config, req Options) (s hostState, err error) {
	s.journal = j
	var installed bool
	if j.HistoryLost() {
		return s, problem.Newf(problem.ExitUsage, "install", "remove that install first: plinth reset cluster", "the journal of an earlier install on this host is lost, so the state before it is unknown")
	}
	if s.receipt, installed, err = journal.ReadReceipt(o.Host, o.DataDir); err != nil {
		return s, err
	}
	if installed {
		if err := m.CheckInstalled(s.receipt); err != nil {
			return s, err
		}
	}
	if s.apiAddress, err = resolveAPIAddress(ctx, j, s.receipt, req); err != nil {
		return s, err
	}
	notice, warning, err := m.CheckVersionGate(!installed && !o.consoleExists(ctx, m), req.SkipKotsCheck)
	if err != nil {
		return s, err
	}
	if notice != "" {
		o.Note(notice)
	}
	if warning != "" {
		s.warnings = append(s.warnings, warning)
	}
	if s.addOns, err = addons.Resolve(m.Installer, o.DataDir); err != nil {
		return s, err
	}
	if s.agent, err = o.AgentArtifact(); err != nil {
		return s, err
	}
	return s, nil
}

// basicFacts gathers the facts of the host that a list of steps needs, without network
// requests and without preflights.
func (o operation) basicFacts(ctx context.Context, s *hostState) {
	s.setFacts(preflight.GatherBasic(ctx, o.Env))
}

// runPreflights runs the host preflights. It stores the facts and the report in s and
// returns an error when a check failed.
func (o operation) runPreflights(ctx context.Context, s *hostState, b *airgap.Bundle, m config.Config, req Options) error {
	vendor, err := config.ParseHostPreflights(m.Installer)
	if err != nil {
		return err
	}
	want := desired.InstallRequirements(b, m.Installer, s.journal, o.DataDir)
	want.Sources = req.opened.FetchURLs()
	found, report, err := preflight.RunChecks(ctx, o.Env, preflight.Options{Requirements: want, VendorPreflights: vendor, Ignore: req.IgnorePreflights, Journal: s.journal})
	if err != nil {
		return err
	}
	if s.snapshot, err = preflight.NewFactsSnapshot(found); err != nil {
		return err
	}
	s.setFacts(found)
	s.preflights = &report
	for _, id := range report.IgnoredIDs() {
		s.warnings = append(s.warnings, "host preflight "+id+" failed and was ignored on request")
	}
	if err := report.Err("install"); err != nil {
		return err
	}
	if !s.address.IsValid() {
		return problem.New(problem.ExitPreflight, "install", errors.New("this host has no IPv4 address that other hosts can reach"), "configure an address and a default route on this host")
	}
	return nil
}

// setFacts sets the fields of s on which the steps and a plan depend.
func (s *hostState) setFacts(found facts.Facts) {
	s.facts = map[string]string{"hostname": found.Hostname, "machine id": found.MachineID, "address": desired.PrimaryAddress(found.Network).String(),
		"system": found.OS.Name + " " + found.OS.Arch, "kernel": found.Kernel.Release, "installed": s.receipt.Bundle}
	s.node = strings.ToLower(found.Hostname)
	s.address = desired.PrimaryAddress(found.Network)
}

// resolveAPIAddress returns the additional API address: the requested one, or the one of
// the run that this one resumes or repeats. It adds the address to the arguments that
// the journal stores.
func resolveAPIAddress(ctx context.Context, j *journal.Journal, r journal.Receipt, req Options) (string, error) {
	if req.APIAddress != "" {
		if err := preflight.ValidateAPIAddress(ctx, "install", req.APIAddress); err != nil {
			return "", err
		}
	}
	last, _ := j.LastRun("install")
	api := cmp.Or(req.APIAddress, last.Args[argAPI], r.API)
	if api != "" {
		req.args[argAPI] = api
	}
	return api, nil
}

// consoleExists reports whether the cluster on this host, if there is one, already runs
// KOTS.
func (o operation) consoleExists(ctx context.Context, m config.Config) bool {
	conf, err := o.Host.ReadFile(k0s.AdminConf)
	if err != nil || m.Installer.Spec.Kotsadm == nil {
		return false
	}
	client, err := kube.New(conf)
	if err != nil {
		return false
	}
	console, err := plan.NewKOTS(o.Host, client, m.Installer.Spec.Kotsadm.Namespace, o.DataDir).ConsoleState(ctx)
	return err == nil && console.Version != ""
}
