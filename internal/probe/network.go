package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/probe/parse"
	"github.com/plinthdev/plinth/internal/probe/sys"
)

func (l look) network(context.Context) answer {
	var n facts.Network
	var err error
	if n.Interfaces, err = l.k.Links(); err != nil {
		return found(facts.FactNetwork, err, nil)
	}
	four, err := l.m.ReadFile("/proc/net/route")
	if err != nil {
		return found(facts.FactNetwork, err, nil)
	}
	// A kernel without IPv6 has no such file.
	n.Routes = append(parse.Routes4(four), parse.Routes6(l.raw("/proc/net/ipv6_route"))...)
	n.Nameservers = parse.Nameservers(l.raw("/etc/resolv.conf"))
	return found(facts.FactNetwork, nil, func(f *facts.Facts) { f.Network = n })
}

func (l look) hostname(ctx context.Context) answer {
	text, err := l.m.ReadFile("/proc/sys/kernel/hostname")
	name := strings.TrimSpace(string(text))
	if err == nil && name == "" {
		err = errors.New("/proc/sys/kernel/hostname is empty")
	}
	if err != nil {
		return found(facts.FactHostname, err, nil)
	}
	a := l.lookup(ctx, name)
	resolved := a.note
	a.note = func(f *facts.Facts) { f.Hostname = name; resolved(f) }
	return a
}

// lookup measures one look-up. No answer is a fact, not a doubt: it is what
// every program on this host will wait for.
func (l look) lookup(ctx context.Context, name string) answer {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	start := l.k.Now()
	addrs, err := l.k.Resolve(ctx, name)
	got := facts.Lookup{Name: name, TookMS: l.k.Now().Sub(start).Milliseconds()}
	for _, a := range addrs {
		if a = a.Unmap(); !slices.Contains(got.Addresses, a) {
			got.Addresses = append(got.Addresses, a)
		}
	}
	var dns *net.DNSError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		got.Error = fmt.Sprintf("no answer within %s", lookupLimit)
	case errors.As(err, &dns) && dns.IsNotFound:
		got.Error = "no such name"
	case errors.As(err, &dns) && dns.Server != "":
		got.Error = "name server " + dns.Server + ": " + sys.Errno(err)
	default:
		got.Error = err.Error()
	}
	return answer{note: func(f *facts.Facts) { f.Lookups = append(f.Lookups, got) }}
}

// ports binds all that was asked for at once, then looks for who holds those
// that are taken.
func (l look) ports(ctx context.Context) answer {
	all := make([]facts.Port, len(l.req.Ports))
	unknown := make([]*facts.Unknown, len(all))
	bind := func(i int) {
		key := l.req.Ports[i]
		err := l.k.Bind(ctx, key)
		all[i] = facts.Port{PortKey: key, Free: err == nil}
		switch {
		case err == nil:
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
			unknown[i] = &facts.Unknown{Fact: facts.FactPort + ":" + key.String(), Why: "binding it is not permitted (" + sys.Errno(err) + ")"}
		default:
			all[i].Error = sys.Errno(err)
		}
	}
	// A holder may end between the two looks, as k0s's own programs do while it
	// starts: its port is tried again.
	for range 3 {
		var wg sync.WaitGroup
		for i, p := range all {
			if !p.Free && p.Owner == nil && unknown[i] == nil {
				wg.Go(func() { bind(i) })
			}
		}
		wg.Wait()
		l.owners(all)
	}
	a := answer{}
	for _, u := range unknown {
		if u != nil {
			a.unknown = append(a.unknown, *u)
		}
	}
	all = slices.DeleteFunc(all, func(p facts.Port) bool { return !p.Free && p.Error == "" })
	a.note = func(f *facts.Facts) { f.Ports = all }
	return a
}

// owners fills in who holds the ports that are taken. A holder that cannot be
// seen (another pid name space, the kernel itself) stays nil.
func (l look) owners(ports []facts.Port) {
	inodes := map[string][]int{} // socket inode → indexes of ports
	for i, p := range ports {
		if p.Error != "EADDRINUSE" {
			continue
		}
		for _, table := range []string{p.Protocol, p.Protocol + "6"} {
			for _, s := range parse.Sockets(l.raw("/proc/net/" + table)) {
				if s.Port == p.Number {
					inodes["socket:["+s.Inode+"]"] = append(inodes["socket:["+s.Inode+"]"], i)
				}
			}
		}
	}
	if len(inodes) == 0 {
		return
	}
	processes, err := l.m.ListProcesses()
	if err != nil {
		return
	}
	for _, p := range processes {
		dir := path.Join("/proc", strconv.Itoa(p.PID), "fd")
		fds, err := l.m.ReadDir(dir)
		if err != nil {
			continue // it ended, or is not ours to look at
		}
		for _, fd := range fds {
			link, err := l.k.Readlink(path.Join(dir, fd.Name()))
			if err != nil {
				continue
			}
			for _, i := range inodes[link] {
				if ports[i].Owner == nil {
					ports[i].Owner = l.owner(p, processes)
				}
			}
		}
	}
}

func (l look) owner(p host.Process, all []host.Process) *facts.Owner {
	dir := path.Join("/proc", strconv.Itoa(p.PID))
	o := &facts.Owner{PID: p.PID, Program: program(p), Unit: parse.Service(l.raw(dir + "/cgroup"))}
	if o.Program == "" {
		o.Program = l.text(dir + "/comm")
	}
	byPID := map[int]host.Process{}
	for _, q := range all {
		byPID[q.PID] = q
	}
	// A chain longer than that is a race with reused pids.
	for parent := p.PPID; parent > 1 && len(o.Parents) < 16; parent = byPID[parent].PPID {
		if exe := program(byPID[parent]); exe != "" {
			o.Parents = append(o.Parents, exe)
		}
	}
	return o
}

func program(p host.Process) string {
	if p.Exe == "" && len(p.Args) > 0 {
		return p.Args[0]
	}
	return p.Exe
}
