package probe

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
)

// PortHost contains the methods of a host that BindPorts needs.
type PortHost interface {
	FileReader
	ListProcesses() ([]host.Process, error)
}

// portProber is one search for the owners of ports.
type portProber struct {
	machine PortHost
	files   Files
	system  System
}

// bindPorts tries to bind all keys in parallel, then finds the owners of the
// ports that are in use. A port that this process may not bind is returned as
// unknown.
func bindPorts(ctx context.Context, m PortHost, k System, keys []facts.PortKey) ([]facts.Port, []facts.Unknown) {
	pr := portProber{m, Files{FileReader: m}, k}
	all := make([]facts.Port, len(keys))
	unknown := make([]*facts.Unknown, len(all))
	bind := func(i int) {
		key := keys[i]
		err := k.BindPort(ctx, key)
		all[i] = facts.Port{PortKey: key, Free: err == nil}
		switch {
		case err == nil:
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
			unknown[i] = &facts.Unknown{Fact: facts.FactPort + ":" + key.String(), Reason: "binding it is not permitted (" + errnoName(err) + ")"}
		default:
			all[i].Error = errnoName(err)
		}
	}
	// The owner may exit between binding and searching, as k0s's own processes
	// do while k0s starts: such a port is tried again.
	for range 3 {
		var wg sync.WaitGroup
		for i, p := range all {
			if !p.Free && p.Owner == nil && unknown[i] == nil {
				wg.Go(func() { bind(i) })
			}
		}
		wg.Wait()
		pr.fillOwners(all)
	}
	var list []facts.Unknown
	for _, u := range unknown {
		if u != nil {
			list = append(list, *u)
		}
	}
	return slices.DeleteFunc(all, func(p facts.Port) bool { return !p.Free && p.Error == "" }), list
}

// fillOwners sets the owner of the ports that are in use. It leaves Owner nil
// for a port whose owner cannot be seen (in another PID namespace, or the
// kernel itself).
func (pr portProber) fillOwners(ports []facts.Port) {
	inodes := map[string][]int{} // socket inode → indexes of ports
	for i, p := range ports {
		if p.Error != "EADDRINUSE" {
			continue
		}
		for _, table := range []string{p.Protocol, p.Protocol + "6"} {
			for _, s := range parseSockets(pr.files.ReadBytes("/proc/net/" + table)) {
				if s.Port == p.Number {
					inodes["socket:["+s.Inode+"]"] = append(inodes["socket:["+s.Inode+"]"], i)
				}
			}
		}
	}
	if len(inodes) == 0 {
		return
	}
	processes, err := pr.machine.ListProcesses()
	if err != nil {
		return
	}
	for _, p := range processes {
		dir := path.Join("/proc", strconv.Itoa(p.PID), "fd")
		fds, err := pr.machine.ReadDir(dir)
		if err != nil {
			continue // the process has exited, or this process may not read it
		}
		for _, fd := range fds {
			link, err := pr.system.Readlink(path.Join(dir, fd.Name()))
			if err != nil {
				continue
			}
			for _, i := range inodes[link] {
				if ports[i].Owner == nil {
					ports[i].Owner = pr.newOwner(p, processes)
				}
			}
		}
	}
}

// newOwner returns the owner of a port: its program, systemd service and parent
// processes.
func (pr portProber) newOwner(p host.Process, all []host.Process) *facts.Owner {
	dir := path.Join("/proc", strconv.Itoa(p.PID))
	o := &facts.Owner{PID: p.PID, Program: programName(p), Unit: parseCgroupService(pr.files.ReadBytes(dir + "/cgroup"))}
	if o.Program == "" {
		o.Program = pr.files.ReadText(dir + "/comm")
	}
	byPID := map[int]host.Process{}
	for _, q := range all {
		byPID[q.PID] = q
	}
	// A longer chain can only come from a race with reused PIDs.
	for parent := p.PPID; parent > 1 && len(o.Parents) < 16; parent = byPID[parent].PPID {
		if exe := programName(byPID[parent]); exe != "" {
			o.Parents = append(o.Parents, exe)
		}
	}
	return o
}

// programName returns the executable of p, or its first argument if the
// executable is not known.
func programName(p host.Process) string {
	if p.Exe == "" && len(p.Args) > 0 {
		return p.Args[0]
	}
	return p.Exe
}
