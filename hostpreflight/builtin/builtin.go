// Package checks contains every host check of Plinth, in the order of the report,
// and the request for the facts that the checks need.
package builtin

import (
	"slices"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/disk"
	"github.com/plinthdev/plinth/hostpreflight/existing"
	"github.com/plinthdev/plinth/hostpreflight/guards"
	"github.com/plinthdev/plinth/hostpreflight/machine"
	"github.com/plinthdev/plinth/hostpreflight/measured"
	"github.com/plinthdev/plinth/hostpreflight/network"
	"github.com/plinthdev/plinth/hostpreflight/peers"
	"github.com/plinthdev/plinth/hostpreflight/settings"
	"github.com/plinthdev/plinth/internal/facts"
)

// All returns every check, in the order of the report.
func Checks() []hp.Check {
	return slices.Concat(machine.Checks(), settings.TimeChecks(), machine.KernelChecks(), settings.Checks(), disk.Checks(), measured.Checks(),
		network.Checks(), network.OnlineChecks(), network.PortChecks(), guards.Checks(), existing.Checks(), peers.Checks())
}

// FactsRequest returns the facts that internal/probe must gather for the checks of
// an install with requirements req.
func Request(req hp.Want) facts.Request {
	r := facts.Request{
		Ports:    network.Ports(req),
		Commands: append(machine.Commands(), guards.Commands()...),
		Lookups:  network.Lookups(),
		Units:    slices.Concat(network.Units(), existing.Units(), guards.Units()),
		Sysctls:  settings.Sysctls(),
		Sources:  req.Sources,
		Proxy:    req.Proxy,
	}
	for _, d := range req.Disks {
		r.Paths = append(r.Paths, d.Path)
		if d.Pods {
			r.DataDirs = append(r.DataDirs, d.Path)
			measure(&r, req, d.Path)
		}
	}
	return r
}

// addBenchmarks adds the benchmarks to r, on the disk that holds etcd and the
// images at path data. It adds none when they are skipped (--quick), when k0s runs
// here already, or before an upgrade.
func measure(r *facts.Request, req hp.Want, data string) {
	if req.Quick || req.Ours.Installed || r.Write != "" || req.Verb == hp.Upgrade {
		return
	}
	r.Write, r.Core = data, true
	if !req.IsWorker() {
		r.Fsync = data + "/etcd"
	}
}
