// Package probe owns looking at a host: it reads files, asks systemd, binds
// ports, resolves names, and fills facts.Facts. Everything it does is bounded
// in time and leaves nothing behind. It refuses to judge, to change anything,
// and to fail: what cannot be told becomes an entry in Facts.Unknown.
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

// Machine is what probe needs of host.Host.
type Machine interface {
	ReadFile(path string) ([]byte, error)
	Lstat(path string) (fs.FileInfo, error)
	ReadDir(path string) ([]fs.DirEntry, error)
	Run(ctx context.Context, cmd host.Cmd) ([]byte, error)
	ListProcesses() ([]host.Process, error)
}

var _ Machine = host.Host{}

// Limits keep one slow part from holding up the whole.
const (
	wholeLimit   = 3 * time.Second         // the look as a whole
	lookupLimit  = 1500 * time.Millisecond // one name
	commandLimit = 2 * time.Second         // one program
	sourceLimit  = 2500 * time.Millisecond // one place in the internet
	fsyncLimit   = 9 * time.Second         // the measure of small writes, on a disk that hangs
	writeLimit   = 2 * time.Second         // the measure of a long file, likewise
)

// look is one run of the probe.
type look struct {
	m     Machine
	files files.Files
	k     sys.Kernel
	bench measure.Bench
	req   facts.Request
}

// Gather looks at the machine, for at most three seconds (less when ctx ends
// sooner). A part that does not answer in that time is listed as unknown.
// Measures that are asked for come after that, one by one, so that nothing of
// this command disturbs them: as a rule two seconds, at most eleven.
func Gather(ctx context.Context, m Machine, req facts.Request) facts.Facts {
	l := newLook(m, sys.Running(), req)
	f := gather(ctx, l, wholeLimit)
	l.measures(ctx, &f)
	return f
}

func newLook(m Machine, k sys.Kernel, req facts.Request) look {
	return look{m: m, files: files.Files{Reader: m}, k: k, bench: measure.Running(), req: req}
}

// part finds out about one fact, or more. It gets no Facts to write to, but
// returns what to note: a part that hangs must not write behind Gather's back.
type part struct {
	fact string
	ask  func(context.Context) answer
}

// answer is what a part found, and what it could not tell.
type answer struct {
	note    func(*facts.Facts) // nil when there is nothing to note
	unknown []facts.Unknown
}

// found is the answer of a part that was told, or of one that was not.
func found(fact string, err error, note func(*facts.Facts)) answer {
	if err != nil {
		return answer{unknown: []facts.Unknown{{Fact: fact, Why: err.Error()}}}
	}
	return answer{note: note}
}

func gather(ctx context.Context, l look, limit time.Duration) facts.Facts {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	parts := l.parts()
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

// tidy puts what came in any order into one order.
func tidy(f *facts.Facts) {
	slices.SortFunc(f.Unknown, func(a, b facts.Unknown) int { return strings.Compare(a.Fact, b.Fact) })
	slices.SortFunc(f.Lookups, func(a, b facts.Lookup) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(f.Sources, func(a, b facts.Source) int { return strings.Compare(a.URL, b.URL) })
	slices.SortFunc(f.Disks, func(a, b facts.Disk) int { return strings.Compare(a.Path, b.Path) })
	slices.SortStableFunc(f.Traces, func(a, b facts.Trace) int { return strings.Compare(string(a.Of), string(b.Of)) })
}

func (l look) parts() []part {
	parts := []part{
		{facts.FactOS, l.os},
		{facts.FactKernel, l.kernel},
		{facts.FactCPU, l.cpu},
		{facts.FactMemory, l.memory},
		{facts.FactCgroup, l.cgroup},
		{facts.FactMachineID, l.machineID},
		{facts.FactNetwork, l.network},
		{facts.FactPort, l.ports},
		{facts.FactClock, l.clock},
		{facts.FactPrivilege, l.privilege},
		{facts.FactSystemd, l.systemd},
		{facts.FactCommands, l.commands},
		{facts.FactTraces, l.traces},
		{facts.FactIptables, l.iptables},
		{facts.FactSecurity, l.security},
		{facts.FactHostname, l.hostname},
		{facts.FactSettings, l.settings},
		{facts.FactProxies, l.proxies},
	}
	for _, path := range l.req.Paths {
		parts = append(parts, part{facts.FactDisk + ":" + path, func(context.Context) answer { return l.disk(path) }})
	}
	if len(l.req.Packages) > 0 {
		parts = append(parts, part{facts.FactPackages, l.packages})
	}
	for _, name := range l.req.Lookups {
		parts = append(parts, part{facts.FactLookup + ":" + name, func(ctx context.Context) answer { return l.lookup(ctx, name) }})
	}
	for _, url := range l.req.Sources {
		parts = append(parts, part{facts.FactSource + ":" + url, func(ctx context.Context) answer { return l.source(ctx, url) }})
	}
	for _, address := range l.req.Dials {
		parts = append(parts, part{facts.FactDial + ":" + address, func(ctx context.Context) answer { return l.dial(ctx, address) }})
	}
	return parts
}
