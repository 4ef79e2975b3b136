package cleanup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/wait"
)

// WorkloadKinds returns what a cluster runs on a host, in the order in which it is removed: units,
// processes, mounts, cgroups. It inspects the host only and never queries the cluster, because k0s
// and containerd may hang or not run any more.
func WorkloadKinds(base Finder) []Kind {
	f := newWorkloadFinder(base, UnitNames())
	return []Kind{f.unitsKind(), f.processesKind(),
		{ID: "mounts", Title: "Unmount what the cluster mounted", Find: f.findMounts, Delete: f.unmountAll},
		{ID: "cgroups", Title: "Remove pods' cgroups", Find: f.findCgroups, Delete: f.removeCgroups},
	}
}

// StopKinds returns the first two of WorkloadKinds without Plinth's agent: k0s and the processes of pods.
func StopKinds(base Finder) []Kind {
	f := newWorkloadFinder(base, K0sUnitNames())
	return []Kind{f.unitsKind(), f.processesKind()}
}

// workloadFinder finds what a cluster runs on a host.
type workloadFinder struct {
	Finder
	units     []string      // that are stopped
	stopGrace time.Duration // time for k0s to stop
	podGrace  time.Duration // time for pods to end; a third of kubelet's default, because a reset should take half a minute
}

func newWorkloadFinder(base Finder, units []string) workloadFinder {
	return workloadFinder{Finder: base, units: units, stopGrace: 15 * time.Second, podGrace: 10 * time.Second}
}

func (f workloadFinder) unitsKind() Kind {
	return Kind{ID: "units", Title: "Stop k0s", Find: f.findUnits, Delete: f.stopUnits}
}

func (f workloadFinder) processesKind() Kind {
	return Kind{ID: "processes", Title: "End the cluster's processes", Find: f.listProcessNames, Delete: f.endProcesses}
}

// findUnits returns the cluster's units that run or start at boot.
func (f workloadFinder) findUnits(ctx context.Context) ([]string, error) {
	var all []string
	for _, unit := range f.units {
		st, err := f.UnitState(ctx, unit)
		if err != nil {
			return nil, err
		}
		down := st.Active == "inactive" || st.Active == "failed"
		if st.Load != "not-found" && (!down || st.Enable == "enabled") {
			all = append(all, unit)
		}
	}
	return all, nil
}

// stopUnits stops the cluster's units, and kills a unit that does not stop within the grace period.
func (f workloadFinder) stopUnits(ctx context.Context) error {
	return ForEach(f.units, func(unit string) error {
		gently, cancel := context.WithTimeout(ctx, f.stopGrace)
		defer cancel()
		err := f.StopUnit(gently, unit)
		if err == nil || gently.Err() == nil || ctx.Err() != nil {
			return err
		}
		if err := f.Execute(ctx, "systemctl", "kill", "--signal=KILL", unit); err != nil {
			return err
		}
		return f.StopUnit(ctx, unit)
	})
}

// findProcesses returns the cluster's processes: k0s, the programs in its data folder, the shims of
// its containerd, all their descendants, and processes of pods whose shim has ended. It never
// returns this process or one of its ancestors.
func (f workloadFinder) findProcesses() ([]host.Process, error) {
	list, err := f.ListProcesses()
	if err != nil {
		return nil, err
	}
	parent := map[int]int{}
	own := map[int]bool{}
	roots := f.cgroupRoots("1")
	for _, p := range list {
		parent[p.PID] = p.PPID
		own[p.PID] = f.isOwnProcess(p) || inKubepods(roots, f.cgroupsOf(p.PID))
	}
	protected := map[int]bool{1: true}
	for pid := os.Getpid(); pid > 1 && !protected[pid]; pid = parent[pid] {
		protected[pid] = true
	}
	descends := func(pid int) bool {
		for steps := 0; pid > 1 && steps < len(list)+1; steps++ {
			if own[pid] {
				return true
			}
			pid = parent[pid]
		}
		return false
	}
	return slices.DeleteFunc(list, func(p host.Process) bool { return protected[p.PID] || !descends(p.PID) }), nil
}

// isOwnProcess reports whether p belongs to the cluster: by its executable, or for a shim by the
// address of its containerd.
func (f workloadFinder) isOwnProcess(p host.Process) bool {
	switch {
	case IsWithin(p.Exe, f.DataDir+"/bin"):
		return true
	case p.Exe == f.Binary:
		return len(p.Args) > 1 && (p.Args[1] == "controller" || p.Args[1] == "worker")
	case isShim(p):
		i := slices.Index(p.Args, "-address")
		return i >= 0 && i+1 < len(p.Args) && IsWithin(p.Args[i+1], f.RunDir)
	}
	return false
}

// cgroupsOf returns the cgroup path of the process pid in each cgroup hierarchy.
func (f workloadFinder) cgroupsOf(pid int) map[string]string { return f.cgroupRoots(strconv.Itoa(pid)) }

// cgroupRoots returns the cgroup path of the process pid in each hierarchy, without the
// "/init.scope" of process 1.
func (f workloadFinder) cgroupRoots(pid string) map[string]string {
	text, err := f.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return nil
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 {
			all[parts[1]] = strings.TrimSuffix(strings.TrimSuffix(parts[2], "/init.scope"), "/")
		}
	}
	return all
}

// inKubepods reports whether cgroups, the cgroup paths of a process, are in the cgroup that kubelet
// creates for pods directly below the root of the host. A kubepods cgroup further down, such as
// that of a cluster in a container, does not belong to the cluster.
func inKubepods(roots, cgroups map[string]string) bool {
	for hierarchy, p := range cgroups {
		rest, ok := strings.CutPrefix(p, roots[hierarchy]+"/kubepods")
		if ok && (rest == "" || rest[0] == '/' || rest == ".slice" || strings.HasPrefix(rest, ".slice/")) {
			return true
		}
	}
	return false
}

// listProcessNames returns the cluster's processes, as shown to users: pid and executable.
func (f workloadFinder) listProcessNames(context.Context) ([]string, error) {
	list, err := f.findProcesses()
	var all []string
	for _, p := range list {
		name := p.Exe
		if name == "" && len(p.Args) > 0 {
			name = p.Args[0]
		}
		all = append(all, fmt.Sprintf("%d %s", p.PID, name))
	}
	return all, err
}

// endProcesses gives the programs of pods time to end, then kills processes until none is left: a
// process may start another one while it is being killed.
func (f workloadFinder) endProcesses(ctx context.Context) error {
	if err := f.terminatePods(ctx); err != nil {
		return err
	}
	return wait.Until(ctx, wait.Options{What: "the cluster's processes to end", Timeout: 20 * time.Second, Interval: 100 * time.Millisecond,
		Diagnose: f.describeSurvivor, NextCommand: "ps -eo pid,stat,wchan:32,args"},
		func(context.Context) (bool, string, error) {
			list, err := f.findProcesses()
			if err != nil || len(list) == 0 {
				return true, "", err
			}
			for _, p := range list {
				if err := f.Kill(p.PID); err != nil {
					return false, "", err
				}
			}
			return false, fmt.Sprintf("%d processes, among them %d %s", len(list), list[0].PID, list[0].Exe), nil
		})
}

// describeSurvivor returns the state of the first process that does not end, or "". A process that
// the kernel keeps waiting, for a disk or a mount that no longer exists, cannot be killed.
func (f workloadFinder) describeSurvivor(context.Context) string {
	list, err := f.findProcesses()
	if err != nil || len(list) == 0 {
		return ""
	}
	status, _ := f.ReadFile(fmt.Sprintf("/proc/%d/status", list[0].PID)) // a process that has ended has no status
	for line := range strings.Lines(string(status)) {
		if state, ok := strings.CutPrefix(line, "State:"); ok {
			return fmt.Sprintf("process %d is in state %s", list[0].PID, strings.Join(strings.Fields(state), " "))
		}
	}
	return ""
}

// terminatePods sends SIGTERM to the first program of each container, as kubelet does for a deleted
// pod, so that a database can close its files. Programs that have not ended after the grace period
// are killed later.
func (f workloadFinder) terminatePods(ctx context.Context) error {
	signaled := map[int]bool{}
	err := wait.Until(ctx, wait.Options{What: "the pods' programs to end", Timeout: f.podGrace, Interval: 100 * time.Millisecond},
		func(context.Context) (bool, string, error) {
			list, err := f.findContainers()
			for _, p := range list {
				if !signaled[p.PID] {
					signaled[p.PID] = true
					err = errors.Join(err, f.Terminate(p.PID))
				}
			}
			return len(list) == 0, fmt.Sprintf("%d are still running", len(list)), err
		})
	if timeout := (*wait.TimeoutError)(nil); errors.As(err, &timeout) {
		return nil
	}
	return err
}

// findContainers returns the first program of each container: the children of the shims of this
// cluster's containerd, whatever their name.
func (f workloadFinder) findContainers() ([]host.Process, error) {
	list, err := f.findProcesses()
	shims := map[int]bool{}
	for _, p := range list {
		shims[p.PID] = isShim(p)
	}
	return slices.DeleteFunc(list, func(p host.Process) bool { return !shims[p.PPID] || isShim(p) }), err
}

// isShim reports whether p is a containerd shim.
func isShim(p host.Process) bool { return strings.HasPrefix(path.Base(p.Exe), "containerd-shim") }
