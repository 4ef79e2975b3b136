// Package builtin owns the registry: every check that Plinth asks of every
// host, in the order of the report, and the list of what probe must look at so
// that all of them can be answered. It refuses to hold a check itself.
package builtin

import (
	"slices"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/disk"
	"github.com/plinthdev/plinth/hostpreflight/existing"
	"github.com/plinthdev/plinth/hostpreflight/machine"
	"github.com/plinthdev/plinth/hostpreflight/network"
	"github.com/plinthdev/plinth/internal/facts"
)

// Checks is every check there is.
func Checks() []hp.Check {
	return slices.Concat(machine.Checks(), machine.KernelChecks(), disk.Checks(), network.Checks(), network.PortChecks(), existing.Checks())
}

// Request is what probe must look at for them.
func Request(w hp.Want) facts.Request {
	r := facts.Request{
		Ports:    network.Ports(w),
		Commands: machine.Commands(),
		Lookups:  []string{"localhost"},
		Units:    slices.Concat(network.Units(), existing.Units()),
	}
	for _, d := range w.Disks {
		r.Paths = append(r.Paths, d.Path)
		if d.Pods {
			r.DataDirs = append(r.DataDirs, d.Path)
		}
	}
	return r
}
