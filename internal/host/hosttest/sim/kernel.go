package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
)

// MountInfoPath is the file that lists the mounts.
const MountInfoPath = "/proc/self/mountinfo"

// wantsDir is the folder in which systemd keeps the units that start at boot.
const wantsDir = "/etc/systemd/system/multi-user.target.wants/"

// AddMount mounts a file system of type fstype at point, or with "bind" the folder onto itself. It
// does nothing if something is mounted at point.
func (s State) AddMount(point, fstype string) {
	if slices.Contains(mountPoints(s), point) {
		return
	}
	s.PutFile(point, "", fs.ModeDir|0o755)
	device, root := "0:31", "/"
	if fstype == "bind" {
		device, root, fstype = "8:1", point, "ext4"
	}
	s.PutFile(MountInfoPath, s[MountInfoPath].Data+fmt.Sprintf("40 1 %s %s %s rw - %s none rw\n", device, root, point, fstype), 0o444)
}

func mountPoints(s State) []string {
	var all []string
	for line := range strings.Lines(s[MountInfoPath].Data) {
		if p := strings.Fields(line)[4]; p != "/" {
			all = append(all, p)
		}
	}
	return all
}

// removeMount removes the last mount at point.
func (m *Machine) removeMount(point string) error {
	lines := strings.SplitAfter(m.State[MountInfoPath].Data, "\n")
	for i, line := range slices.Backward(lines) {
		if strings.Contains(line, " "+point+" rw ") {
			m.State.PutFile(MountInfoPath, strings.Join(slices.Delete(lines, i, i+1), ""), 0o444)
			return nil
		}
	}
	return errors.New(point + " is not mounted")
}

// AddProcess adds a running program. The cgroup "" is the root.
func (s State) AddProcess(pid, ppid int, cgroup, exe string, args ...string) {
	s[fmt.Sprintf("process %d", pid)] = Object{Data: fmt.Sprintf("%d %s", ppid, strings.Join(append([]string{exe}, args...), " "))}
	s.PutFile(fmt.Sprintf("/proc/%d/cgroup", pid), "0::/"+cgroup+"\n", 0o444)
}

type processTable struct{ *Machine }

func (p processTable) ListProcesses() ([]host.Process, error) {
	var all []host.Process
	for _, name := range p.State.ListNames("process") {
		pid, _ := strconv.Atoi(name)
		words := strings.Fields(p.State["process "+name].Data)
		ppid, _ := strconv.Atoi(words[0])
		all = append(all, host.Process{PID: pid, PPID: ppid, Exe: words[1], Args: words[1:]})
	}
	return all, nil
}

func (p processTable) Terminate(pid int) error {
	p.reportChange("terminate %d", pid)
	p.removeProcess(strconv.Itoa(pid))
	return nil
}

func (p processTable) Kill(pid int) error {
	p.reportChange("kill %d", pid)
	p.removeProcess(strconv.Itoa(pid))
	return nil
}

func (m *Machine) removeProcess(pid string) {
	delete(m.State, "process "+pid)
	delete(m.State, "/proc/"+pid+"/cgroup")
	delete(m.State, "/proc/"+pid)
}

type unitTable struct{ *Machine }

func (u unitTable) UnitState(_ context.Context, unit string) (host.UnitState, error) {
	st := host.UnitState{Load: "not-found", Active: "inactive", Sub: "dead"}
	if _, ok := u.State["/etc/systemd/system/"+unit]; ok {
		st.Load, st.Enable = "loaded", "disabled"
	}
	if _, ok := u.State[wantsDir+unit]; ok {
		st.Enable = "enabled"
	}
	if _, ok := u.State["running "+unit]; ok {
		st.Load, st.Active, st.Sub = "loaded", "active", "running"
	}
	return st, nil
}

func (u unitTable) StartUnit(_ context.Context, unit string) error {
	u.reportChange("enable %s", unit)
	u.State.PutFile(wantsDir+unit, "", fs.ModeSymlink|0o777)
	u.reportChange("start %s", unit)
	if _, ok := u.State["running "+unit]; !ok {
		u.State["running "+unit] = Object{Data: u.State.ProgramOf(unit)}
		u.State.addUnitEffects(unit)
	}
	return nil
}

// ProgramOf returns a text that identifies the program, the configuration and the unit file with which unit would be
// started now. The object "running UNIT" has that of its last start.
func (s State) ProgramOf(unit string) string {
	hash := fnv.New64a()
	for _, p := range []string{"/usr/local/bin/k0s", "/etc/k0s/k0s.yaml", "/etc/systemd/system/" + unit} {
		if unit == agentUnit {
			p = strings.Replace(p, "/usr/local/bin/k0s", "/usr/local/bin/plinth-agent", 1)
		}
		if unit != agentUnit || p != "/etc/k0s/k0s.yaml" {
			fmt.Fprintf(hash, "%d %s", len(s[p].Data), s[p].Data)
		}
	}
	return fmt.Sprintf("%x", hash.Sum64())
}

// RestartUnit ends the unit's main process and starts a new one from the current program.
func (u unitTable) RestartUnit(ctx context.Context, unit string) error {
	u.reportChange("restart %s", unit)
	delete(u.State, "running "+unit)
	return u.StartUnit(ctx, unit)
}

// StopUnit ends the unit's main process. The processes that it started continue to run, as k0s's
// shims do.
func (u unitTable) StopUnit(_ context.Context, unit string) error {
	u.reportChange("stop %s", unit)
	delete(u.State, "running "+unit)
	switch unit {
	case controllerUnit, workerUnit:
		u.removeProcess(strconv.Itoa(k0sPID))
	case agentUnit:
		u.removeProcess(strconv.Itoa(agentPID))
	}
	u.reportChange("disable %s", unit)
	delete(u.State, wantsDir+unit)
	return nil
}

func (u unitTable) UnitLog(context.Context, string, int) ([]string, error) { return nil, nil }

type addressSets struct{ *Machine }

func (s addressSets) ListSets() ([]string, error) { return s.State.ListNames("set"), nil }

func (s addressSets) DestroySet(name string) error {
	s.reportChange("destroy set %s", name)
	delete(s.State, "set "+name)
	return nil
}

// setSysctl sets a kernel setting that exists.
func (m *Machine) setSysctl(assignment string) error {
	key, value, _ := strings.Cut(assignment, "=")
	p := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
	if _, ok := m.State[p]; !ok {
		return errors.New("no such setting: " + key)
	}
	m.State.PutFile(p, value+"\n", 0o644)
	return nil
}

// removeDirs removes empty folders, in order.
func (m *Machine) removeDirs(dirs []string) error {
	for _, dir := range dirs {
		if len(m.State.pathsBelow(dir)) > 0 {
			return errors.New(dir + " is not empty")
		}
		m.reportChange("rmdir %s", dir)
		delete(m.State, path.Clean(dir))
	}
	return nil
}
