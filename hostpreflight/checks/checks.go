// Package checks contains every host check of Plinth, in the order of the report,
// and the request for the facts that the checks need.
package checks

import (
	"slices"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// All returns every check, in the order of the report.
func All() []hp.Check {
	return slices.Concat(machineChecks(), timeChecks(), kernelChecks(), settingsChecks(), diskChecks(), benchmarkChecks(),
		networkChecks(), balancerChecks(), onlineChecks(), portChecks(), securityChecks(), conflictChecks(), runtimeChecks(), peerChecks())
}

// FactsRequest returns the facts that internal/probe must gather for the checks of
// an install with requirements req.
func FactsRequest(req hp.Requirements) facts.Request {
	r := facts.Request{
		Ports:    portsToBind(req),
		Commands: append(machineCommands(), securityCommands()...),
		Lookups:  networkLookups(),
		Units:    slices.Concat(networkUnits(), conflictUnits(), securityUnits()),
		Sysctls:  sysctlKeys(),
		Sources:  req.Sources,
		Proxy:    req.Proxy,
		Runs:     slices.Concat(backupRuns(req), snapshotFolderRuns(req)),
	}
	for _, d := range req.WritePaths {
		r.Paths = append(r.Paths, d.Path)
		inDataDir := slices.ContainsFunc(r.DataDirs, func(dir string) bool { return strings.HasPrefix(d.Path, dir+"/") })
		if d.Pods && !inDataDir {
			r.DataDirs = append(r.DataDirs, d.Path)
			addBenchmarks(&r, req, d.Path)
		}
	}
	return r
}

// addBenchmarks adds the benchmarks to r, on the disk that holds etcd and the
// images at path data. It adds none when they are skipped (--quick), when k0s runs
// here already, or before an upgrade.
func addBenchmarks(r *facts.Request, req hp.Requirements, data string) {
	if req.Quick || req.Owned.Installed || r.WritePath != "" || req.Verb == hp.Upgrade {
		return
	}
	r.WritePath, r.MeasureCore = data, true
	if !req.IsWorker() {
		r.FsyncPath = data + "/etcd"
	}
}
