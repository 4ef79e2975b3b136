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
	"github.com/plinthdev/plinth/internal/app/compose"
	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/app/preflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
)

// site is all that is known of this host before an install changes it.
type site struct {
	journal    *journal.Journal
	receipt    journal.Receipt       // zero when nothing is installed
	address    netip.Addr            // of this host, towards other hosts
	node       string                // Kubernetes name of this host
	api        string                // further name or address of the API; "" for none
	preflights *hostpreflight.Report // nil until they were asked
	parts      []addons.AddOn
	warnings   []string // what was skipped or ignored on request, for the receipt
	self       node.Artifact
	facts      map[string]string // what a plan depends on, in words
	keep       preflight.Keeping // what was found, for later runs
}

// site is what the steps of an install need to know of where they run.
func (a job) site(s site, m manifest.Set) compose.Site {
	podCIDR := netip.MustParsePrefix(m.Installer.Spec.Network.PodCIDR) // lint has parsed it
	return compose.Site{Host: a.Host, Journal: s.journal, Now: a.Now, DataDir: a.DataDir, Node: s.node, Address: s.address, API: s.api,
		AddOns: s.parts, Leftover: a.Leftover(podCIDR), Self: s.self}
}

// survey looks at what earlier runs have left and asks the gate. It changes
// nothing, and knows nothing yet of the host itself.
func (a job) survey(ctx context.Context, j *journal.Journal, m manifest.Set, req Request) (s site, err error) {
	s.journal = j
	var installed bool
	if j.Lost() {
		return s, problem.Newf(problem.ExitUsage, "install", "take away first what is there: plinth reset cluster", "the journal of an earlier install on this host is lost: nobody knows any more what stood here before")
	}
	if s.receipt, installed, err = journal.ReadReceipt(a.Host, a.DataDir); err != nil {
		return s, err
	}
	if installed {
		if err := m.Fits(s.receipt); err != nil {
			return s, err
		}
	}
	if s.api, err = apiAddress(ctx, j, s.receipt, req); err != nil {
		return s, err
	}
	notice, warning, err := m.Gate(!installed && !a.consoleExists(ctx, m), req.SkipKotsCheck)
	if err != nil {
		return s, err
	}
	if notice != "" {
		a.Note(notice)
	}
	if warning != "" {
		s.warnings = append(s.warnings, warning)
	}
	if s.parts, err = addons.Resolve(m.Installer, a.DataDir); err != nil {
		return s, err
	}
	if s.self, err = a.Self(); err != nil {
		return s, err
	}
	return s, nil
}

// near takes what has to be known of the host for a list of steps, asks nobody
// else and proves nothing.
func (a job) near(ctx context.Context, s *site) {
	s.meet(preflight.Near(ctx, a.Run))
}

// prove runs the preflights.
func (a job) prove(ctx context.Context, s *site, b *airgap.Bundle, m manifest.Set, req Request) error {
	vendor, err := manifest.Preflights(m.Installer)
	if err != nil {
		return err
	}
	want := compose.Want(b, m.Installer, s.journal, a.DataDir)
	want.Sources = req.from.Sources()
	found, report, err := preflight.Look(ctx, a.Run, preflight.Question{Want: want, Vendor: vendor, Ignore: req.IgnorePreflights, Journal: s.journal})
	if err != nil {
		return err
	}
	if s.keep, err = preflight.Keep(found); err != nil {
		return err
	}
	s.meet(found)
	s.preflights = &report
	for _, id := range report.Ignored() {
		s.warnings = append(s.warnings, "host preflight "+id+" failed and was ignored on request")
	}
	if err := report.Err("install"); err != nil {
		return err
	}
	if !s.address.IsValid() {
		return problem.New(problem.ExitPreflight, "install", errors.New("this host has no IPv4 address that others could reach"), "give the host an address and a default route")
	}
	return nil
}

// meet takes from the facts what the steps and a plan depend on.
func (s *site) meet(found facts.Facts) {
	s.facts = map[string]string{"hostname": found.Hostname, "machine id": found.MachineID, "address": compose.Primary(found.Network).String(),
		"system": found.OS.Name + " " + found.OS.Arch, "kernel": found.Kernel.Release, "installed": s.receipt.Bundle}
	s.node = strings.ToLower(found.Hostname)
	s.address = compose.Primary(found.Network)
}

// apiAddress is the one that was asked for now, or by the run that this one
// resumes or repeats; the journal is told.
func apiAddress(ctx context.Context, j *journal.Journal, r journal.Receipt, req Request) (string, error) {
	if req.APIAddress != "" {
		if err := preflight.APIAddress(ctx, "install", req.APIAddress); err != nil {
			return "", err
		}
	}
	last, _ := j.Last("install")
	api := cmp.Or(req.APIAddress, last.Args[argAPI], r.API)
	if api != "" {
		req.asked[argAPI] = api
	}
	return api, nil
}

// consoleExists reports whether the cluster on this host, if there is one, has
// KOTS in it already.
func (a job) consoleExists(ctx context.Context, m manifest.Set) bool {
	conf, err := a.Host.ReadFile(k0s.AdminConf)
	if err != nil || m.Installer.Spec.Kotsadm == nil {
		return false
	}
	client, err := kube.New(conf)
	if err != nil {
		return false
	}
	console, err := plan.KOTS(a.Host, client, m.Installer.Spec.Kotsadm.Namespace, a.DataDir).State(ctx)
	return err == nil && console.Version != ""
}
