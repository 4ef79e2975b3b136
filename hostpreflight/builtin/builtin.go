// Package builtin owns the registry: every check that Plinth asks of every
// host, in the order of the report, and the list of what probe must look at so
// that all of them can be answered. It refuses to hold a check itself.
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

// Checks is every check there is.
func Checks() []hp.Check {
	return slices.Concat(machine.Checks(), settings.TimeChecks(), machine.KernelChecks(), settings.Checks(), disk.Checks(), measured.Checks(),
		network.Checks(), network.OnlineChecks(), network.PortChecks(), guards.Checks(), existing.Checks(), peers.Checks())
}

// Request is what probe must look at for them.
func Request(w hp.Want) facts.Request {
	r := facts.Request{
		Ports:    network.Ports(w),
		Commands: append(machine.Commands(), guards.Commands()...),
		Lookups:  network.Lookups(),
		Units:    slices.Concat(network.Units(), existing.Units(), guards.Units()),
		Sysctls:  settings.Sysctls(),
		Sources:  w.Sources,
		Proxy:    w.Proxy,
	}
	for _, d := range w.Disks {
		r.Paths = append(r.Paths, d.Path)
		if d.Pods {
			r.DataDirs = append(r.DataDirs, d.Path)
			measure(&r, w, d.Path)
		}
	}
	return r
}

// measure asks for what package measured judges, on the disk that etcd and the
// images will be on.
func measure(r *facts.Request, w hp.Want, data string) {
	if w.Quick || w.Ours.Installed || r.Write != "" || w.Verb == hp.Upgrade {
		return
	}
	r.Write, r.Core = data, true
	if !w.IsWorker() {
		r.Fsync = data + "/etcd"
	}
}
