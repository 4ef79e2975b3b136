package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
)

// MountInfoPath is the file that lists the mounts.
const MountInfo = "/proc/self/mountinfo"

// wantsDir is the folder in which systemd keeps the units that start at boot.
const wants = "/etc/systemd/system/multi-user.target.wants/"

// AddMount mounts a file system of type fstype at point, or with "bind" the folder onto itself. It
// does nothing if something is mounted at point.
func (s State) Mount(point, fstype string) {
	if slices.Contains(mountPoints(s), point) {
		return
	}
	s.Put(point, "", fs.ModeDir|0o755)
	device, root := "0:31", "/"
	if fstype == "bind" {
		device, root, fstype = "8:1", point, "ext4"
	}
	s.Put(MountInfo, s[MountInfo].Data+fmt.Sprintf("40 1 %s %s %s rw - %s none rw\n", device, root, point, fstype), 0o444)
}

func mountPoints(s State) []string {
	var all []string
	for line := range strings.Lines(s[MountInfo].Data) {
		if p := strings.Fields(line)[4]; p != "/" {
			all = append(all, p)
		}
	}
	return all
}

// removeMount removes the last mount at point.
func (m *Machine) umount(point string) error {
	lines := strings.SplitAfter(m.State[MountInfo].Data, "\n")
	for i, line := range slices.Backward(lines) {
		if strings.Contains(line, " "+point+" rw ") {
			m.State.Put(MountInfo, strings.Join(slices.Delete(lines, i, i+1), ""), 0o444)
			return nil
		}
	}
	return errors.New(point + " is not mounted")
}

// AddProcess adds a running program. The cgroup "" is the root.
func (s State) Process(pid, ppid int, cgroup, exe string, args ...string) {
	s[fmt.Sprintf("process %d", pid)] = Thing{Data: fmt.Sprintf("%d %s", ppid, strings.Join(append([]string{exe}, args...), " "))}
	s.Put(fmt.Sprintf("/proc/%d/cgroup", pid), "0::/"+cgroup+"\n", 0o444)
}

type processes struct{ *Machine }

func (p processes) ListProcesses() ([]host.Process, error) {
	var all []host.Process
	for _, name := range p.State.Named("process") {
		pid, _ := strconv.Atoi(name)
		words := strings.Fields(p.State["process "+name].Data)
		ppid, _ := strconv.Atoi(words[0])
		all = append(all, host.Process{PID: pid, PPID: ppid, Exe: words[1], Args: words[1:]})
	}
	return all, nil
}

func (p processes) Terminate(pid int) error {
	p.act("terminate %d", pid)
	p.end(strconv.Itoa(pid))
	return nil
}

func (p processes) Kill(pid int) error {
	p.act("kill %d", pid)
	p.end(strconv.Itoa(pid))
	return nil
}

func (m *Machine) end(pid string) {
	delete(m.State, "process "+pid)
	delete(m.State, "/proc/"+pid+"/cgroup")
	delete(m.State, "/proc/"+pid)
}

type units struct{ *Machine }

func (u units) UnitState(_ context.Context, unit string) (host.UnitState, error) {
	st := host.UnitState{Load: "not-found", Active: "inactive", Sub: "dead"}
	if _, ok := u.State["/etc/systemd/system/"+unit]; ok {
		st.Load, st.Enable = "loaded", "disabled"
	}
	if _, ok := u.State[wants+unit]; ok {
		st.Enable = "enabled"
	}
	if _, ok := u.State["running "+unit]; ok {
		st.Load, st.Active, st.Sub = "loaded", "active", "running"
	}
	return st, nil
}

func (u units) StartUnit(_ context.Context, unit string) error {
	u.act("enable %s", unit)
	u.State.Put(wants+unit, "", fs.ModeSymlink|0o777)
	u.act("start %s", unit)
	if _, ok := u.State["running "+unit]; !ok {
		u.State["running "+unit] = Thing{}
		u.State.started(unit)
	}
	return nil
}

// StopUnit ends the unit's main process. The processes that it started continue to run, as k0s's
// shims do.
func (u units) StopUnit(_ context.Context, unit string) error {
	u.act("stop %s", unit)
	delete(u.State, "running "+unit)
	switch unit {
	case controller, worker:
		u.end(strconv.Itoa(k0sPID))
	case agent:
		u.end(strconv.Itoa(agentPID))
	}
	u.act("disable %s", unit)
	delete(u.State, wants+unit)
	return nil
}

func (u units) UnitLog(context.Context, string, int) ([]string, error) { return nil, nil }

type sets struct{ *Machine }

func (s sets) ListSets() ([]string, error) { return s.State.Named("set"), nil }

func (s sets) DestroySet(name string) error {
	s.act("destroy set %s", name)
	delete(s.State, "set "+name)
	return nil
}

// setSysctl sets a kernel setting that exists.
func (m *Machine) sysctl(assignment string) error {
	key, value, _ := strings.Cut(assignment, "=")
	p := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
	if _, ok := m.State[p]; !ok {
		return errors.New("no such setting: " + key)
	}
	m.State.Put(p, value+"\n", 0o644)
	return nil
}

// removeDirs removes empty folders, in order.
func (m *Machine) rmdir(dirs []string) error {
	for _, dir := range dirs {
		if len(m.State.below(dir)) > 0 {
			return errors.New(dir + " is not empty")
		}
		m.act("rmdir %s", dir)
		delete(m.State, path.Clean(dir))
	}
	return nil
}
