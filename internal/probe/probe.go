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
	"github.com/plinthdev/plinth/internal/probe/files"
	"github.com/plinthdev/plinth/internal/probe/measure"
	"github.com/plinthdev/plinth/internal/probe/sys"
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
	wholeLimit   = 3 * time.Second         // all parts together
	lookupLimit  = 1500 * time.Millisecond // one name lookup
	commandLimit = 2 * time.Second         // one command
	sourceLimit  = 2500 * time.Millisecond // one request to the internet
	fsyncLimit   = 9 * time.Second         // the benchmark of small writes, on a disk that hangs
	writeLimit   = 2 * time.Second         // the benchmark of a large file, likewise
)

// prober is one run of the probe.
type look struct {
	m     Machine
	files files.Files
	k     sys.Kernel
	bench measure.Bench
	req   facts.Request
}

// Gather returns the facts about machine m, and takes at most three seconds for
// this (less if ctx ends sooner). A part that does not answer in that time is
// listed as unknown. The requested benchmarks run after that, one by one, so
// that no other work of this command disturbs them: usually for two seconds, at
// most eleven.
func Gather(ctx context.Context, m Machine, req facts.Request) facts.Facts {
	pr := newLook(m, sys.Running(), req)
	f := gather(ctx, pr, wholeLimit)
	pr.measures(ctx, &f)
	return f
}

func newLook(m Machine, k sys.Kernel, req facts.Request) look {
	return look{m: m, files: files.Files{Reader: m}, k: k, bench: measure.Running(), req: req}
}

// part determines one or more facts. It does not write to Facts but returns a
// function that does: a part that hangs must not write after Gather has
// returned.
type part struct {
	fact string
	ask  func(context.Context) answer
}

// partResult is what a part found, and what it could not determine.
type answer struct {
	note    func(*facts.Facts) // nil if there is nothing to record
	unknown []facts.Unknown
}

// newPartResult returns a result that records facts with note, or one that
// lists fact as unknown if err is not nil.
func found(fact string, err error, note func(*facts.Facts)) answer {
	if err != nil {
		return answer{unknown: []facts.Unknown{{Fact: fact, Why: err.Error()}}}
	}
	return answer{note: note}
}

// gatherFacts runs all parts in parallel for at most limit and returns their
// facts.
func gather(ctx context.Context, pr look, limit time.Duration) facts.Facts {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	parts := pr.parts()
	type reply struct {
		part int
		answer
	}
	replies := make(chan reply, len(parts))
	for i, p := range parts {
		go func() { replies <- reply{i, p.ask(ctx)} }()
	}
	f := facts.Facts{Schema: facts.Schema, Commands: map[string]string{}}
	done := make([]bool, len(parts))
	for left := len(parts); left > 0; left-- {
		select {
		case r := <-replies:
			done[r.part] = true
			f.Unknown = append(f.Unknown, r.unknown...)
			if r.note != nil {
				r.note(&f)
			}
		case <-time.After(time.Until(start.Add(limit + 200*time.Millisecond))):
			left = 0
		}
	}
	for i, p := range parts {
		if !done[i] {
			f.Unknown = append(f.Unknown, facts.Unknown{Fact: p.fact, Why: fmt.Sprintf("no answer within %s", limit)})
		}
	}
	tidy(&f)
	f.TookMS = time.Since(start).Milliseconds()
	return f
}

// sortFacts sorts the lists that the parts filled in random order.
func tidy(f *facts.Facts) {
	slices.SortFunc(f.Unknown, func(a, b facts.Unknown) int { return strings.Compare(a.Fact, b.Fact) })
	slices.SortFunc(f.Lookups, func(a, b facts.Lookup) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(f.Sources, func(a, b facts.Source) int { return strings.Compare(a.URL, b.URL) })
	slices.SortFunc(f.Disks, func(a, b facts.Disk) int { return strings.Compare(a.Path, b.Path) })
	slices.SortStableFunc(f.Traces, func(a, b facts.Trace) int { return strings.Compare(string(a.Of), string(b.Of)) })
}

// listParts returns the parts that the request needs.
func (pr look) parts() []part {
	parts := []part{
		{facts.FactOS, pr.os},
		{facts.FactKernel, pr.kernel},
		{facts.FactCPU, pr.cpu},
		{facts.FactMemory, pr.memory},
		{facts.FactCgroup, pr.cgroup},
		{facts.FactMachineID, pr.machineID},
		{facts.FactNetwork, pr.network},
		{facts.FactPort, pr.ports},
		{facts.FactClock, pr.clock},
		{facts.FactPrivilege, pr.privilege},
		{facts.FactSystemd, pr.systemd},
		{facts.FactCommands, pr.commands},
		{facts.FactTraces, pr.traces},
		{facts.FactIptables, pr.iptables},
		{facts.FactSecurity, pr.security},
		{facts.FactHostname, pr.hostname},
		{facts.FactSettings, pr.settings},
		{facts.FactProxies, pr.proxies},
	}
	for _, path := range pr.req.Paths {
		parts = append(parts, part{facts.FactDisk + ":" + path, func(context.Context) answer { return pr.disk(path) }})
	}
	if len(pr.req.Packages) > 0 {
		parts = append(parts, part{facts.FactPackages, pr.packages})
	}
	for _, name := range pr.req.Lookups {
		parts = append(parts, part{facts.FactLookup + ":" + name, func(ctx context.Context) answer { return pr.lookup(ctx, name) }})
	}
	for _, url := range pr.req.Sources {
		parts = append(parts, part{facts.FactSource + ":" + url, func(ctx context.Context) answer { return pr.source(ctx, url) }})
	}
	for _, address := range pr.req.Dials {
		parts = append(parts, part{facts.FactDial + ":" + address, func(ctx context.Context) answer { return pr.dial(ctx, address) }})
	}
	return parts
}
