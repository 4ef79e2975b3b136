// Package ports owns taking ports and letting go of them, and finding who holds
// those that are taken. It refuses to judge.
package ports

import (
	"context"
	"errors"
	"path"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/probe/files"
	"github.com/plinthdev/plinth/internal/probe/parse"
	"github.com/plinthdev/plinth/internal/probe/sys"
)

// Machine is what is needed of a host.
type Machine interface {
	files.Reader
	ListProcesses() ([]host.Process, error)
}

// look is one search.
type look struct {
	m     Machine
	files files.Files
	k     sys.Kernel
}

// Bind binds all keys at once, then looks for who holds those that are taken.
// A port that may not be bound is unknown.
func Bind(ctx context.Context, m Machine, k sys.Kernel, keys []facts.PortKey) ([]facts.Port, []facts.Unknown) {
	l := look{m, files.Files{Reader: m}, k}
	all := make([]facts.Port, len(keys))
	unknown := make([]*facts.Unknown, len(all))
	bind := func(i int) {
		key := keys[i]
		err := k.Bind(ctx, key)
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
	var told []facts.Unknown
	for _, u := range unknown {
		if u != nil {
			told = append(told, *u)
		}
	}
	return slices.DeleteFunc(all, func(p facts.Port) bool { return !p.Free && p.Error == "" }), told
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
			for _, s := range parse.Sockets(l.files.Raw("/proc/net/" + table)) {
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
	o := &facts.Owner{PID: p.PID, Program: program(p), Unit: parse.Service(l.files.Raw(dir + "/cgroup"))}
	if o.Program == "" {
		o.Program = l.files.Text(dir + "/comm")
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
