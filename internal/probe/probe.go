// Package probe inspects a host: it reads files, queries systemd, binds ports
// and resolves names, and returns facts.Facts. Every probe is limited in time,
// changes nothing and leaves nothing behind; what cannot be determined is
// listed in Facts.Unknown.
package probe

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
)

// Machine contains the methods of host.Host that the probe needs.
type Machine interface {
	ReadFile(path string) ([]byte, error)
	Lstat(path string) (fs.FileInfo, error)
	ReadDir(path string) ([]fs.DirEntry, error)
	Run(ctx context.Context, cmd host.Cmd) ([]byte, error)
	ListProcesses() ([]host.Process, error)
}

var _ Machine = host.Host{}

// These limits keep one slow part from delaying the whole probe.
const (
	gatherTimeout  = 3 * time.Second         // all parts together
	lookupTimeout  = 1500 * time.Millisecond // one name lookup
	commandTimeout = 2 * time.Second         // one command
	sourceTimeout  = 2500 * time.Millisecond // one request to the internet
	fsyncTimeout   = 9 * time.Second         // the benchmark of small writes, on a disk that hangs
	writeTimeout   = 2 * time.Second         // the benchmark of a large file, likewise
)

// prober is one run of the probe.
type prober struct {
	machine Machine
	files   Files
	system  System
	bench   Bench
	req     facts.Request
}

// Gather returns the facts about machine m, and takes at most three seconds for
// this (less if ctx ends sooner). A part that does not answer in that time is
// listed as unknown. A vendor's programs and tests of load balancers run after
// that, within their own time limits. The requested benchmarks run last, one by
// one, so that no other work of this command disturbs them: usually for two
// seconds, at most eleven.
func Gather(ctx context.Context, m Machine, req facts.Request) facts.Facts {
	pr := newProber(m, localSystem(), req)
	f := gatherFacts(ctx, pr, gatherTimeout)
	pr.runVendorTests(ctx, &f)
	pr.runBenchmarks(ctx, &f)
	return f
}

func newProber(m Machine, k System, req facts.Request) prober {
	return prober{machine: m, files: Files{FileReader: m}, system: k, bench: localBench(), req: req}
}

// part determines one or more facts. It does not write to Facts but returns a
// function that does: a part that hangs must not write after Gather has
// returned.
type part struct {
	fact string
	run  func(context.Context) partResult
}

// partResult is what a part found, and what it could not determine.
type partResult struct {
	record  func(*facts.Facts) // nil if there is nothing to record
	unknown []facts.Unknown
}

// newPartResult returns a result that records facts with note, or one that
// lists fact as unknown if err is not nil.
func newPartResult(fact string, err error, note func(*facts.Facts)) partResult {
	if err != nil {
		return partResult{unknown: []facts.Unknown{{Fact: fact, Reason: err.Error()}}}
	}
	return partResult{record: note}
}

// gatherFacts runs all parts in parallel for at most limit and returns their
// facts.
func gatherFacts(ctx context.Context, pr prober, limit time.Duration) facts.Facts {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	parts := pr.listParts()
	type reply struct {
		part int
		partResult
	}
	replies := make(chan reply, len(parts))
	for i, p := range parts {
		go func() { replies <- reply{i, p.run(ctx)} }()
	}
	f := facts.Facts{Schema: facts.Schema, Commands: map[string]string{}}
	done := make([]bool, len(parts))
	for left := len(parts); left > 0; left-- {
		select {
		case r := <-replies:
			done[r.part] = true
			f.Unknown = append(f.Unknown, r.unknown...)
			if r.record != nil {
				r.record(&f)
			}
		case <-time.After(time.Until(start.Add(limit + 200*time.Millisecond))):
			left = 0
		}
	}
	for i, p := range parts {
		if !done[i] {
			f.Unknown = append(f.Unknown, facts.Unknown{Fact: p.fact, Reason: fmt.Sprintf("no answer within %s", limit)})
		}
	}
	sortFacts(&f)
	f.TookMS = time.Since(start).Milliseconds()
	return f
}

// sortFacts sorts the lists that the parts filled in random order.
func sortFacts(f *facts.Facts) {
	slices.SortFunc(f.Unknown, func(a, b facts.Unknown) int { return strings.Compare(a.Fact, b.Fact) })
	slices.SortFunc(f.Lookups, func(a, b facts.Lookup) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(f.Sources, func(a, b facts.Source) int { return strings.Compare(a.URL, b.URL) })
	slices.SortFunc(f.KeyPairs, func(a, b facts.KeyPair) int { return strings.Compare(a.Certificate, b.Certificate) })
	slices.SortFunc(f.Disks, func(a, b facts.Disk) int { return strings.Compare(a.Path, b.Path) })
	slices.SortStableFunc(f.Traces, func(a, b facts.Trace) int { return strings.Compare(string(a.Software), string(b.Software)) })
}

// listParts returns the parts that the request needs.
func (pr prober) listParts() []part {
	parts := []part{
		{facts.FactOS, pr.gatherOS},
		{facts.FactKernel, pr.gatherKernel},
		{facts.FactCPU, pr.gatherCPU},
		{facts.FactMemory, pr.gatherMemory},
		{facts.FactCgroup, pr.gatherCgroup},
		{facts.FactMachineID, pr.gatherMachineID},
		{facts.FactNetwork, pr.gatherNetwork},
		{facts.FactPort, pr.gatherPorts},
		{facts.FactClock, pr.gatherClock},
		{facts.FactPrivilege, pr.gatherPrivilege},
		{facts.FactSystemd, pr.gatherSystemd},
		{facts.FactCommands, pr.gatherCommands},
		{facts.FactTraces, pr.gatherTraces},
		{facts.FactIptables, pr.gatherFirewall},
		{facts.FactSecurity, pr.gatherSecurity},
		{facts.FactHostname, pr.gatherHostname},
		{facts.FactSettings, pr.gatherSettings},
		{facts.FactProxies, pr.gatherProxies},
		{facts.FactRuntime, pr.gatherRuntime},
	}
	for _, path := range pr.req.Paths {
		parts = append(parts, part{facts.FactDisk + ":" + path, func(context.Context) partResult { return pr.gatherDisk(path) }})
	}
	if len(pr.req.Packages) > 0 {
		parts = append(parts, part{facts.FactPackages, pr.gatherPackages})
	}
	for _, name := range pr.req.Lookups {
		parts = append(parts, part{facts.FactLookup + ":" + name, func(ctx context.Context) partResult { return pr.resolveName(ctx, name) }})
	}
	for _, url := range pr.req.Sources {
		parts = append(parts, part{facts.FactSource + ":" + url, func(ctx context.Context) partResult { return pr.requestSource(ctx, url) }})
	}
	for _, address := range pr.req.Dials {
		parts = append(parts, part{facts.FactDial + ":" + address, func(ctx context.Context) partResult { return pr.dialAddress(ctx, address) }})
	}
	return append(parts, pr.listVendorParts()...)
}
