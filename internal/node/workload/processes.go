// Package workload owns what a cluster runs on a host, seen from outside of it:
// units, processes, mounts, cgroups. It refuses to ask the cluster: by then k0s
// and containerd may be hanging or gone.
package workload

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
	"github.com/plinthdev/plinth/internal/node/leftover"
	"github.com/plinthdev/plinth/internal/wait"
)

// Kinds is these leftovers in the order in which they go.
func Kinds(base leftover.Finder) []leftover.Kind {
	f := finder{Finder: base, grace: 15 * time.Second, podGrace: 10 * time.Second}
	return []leftover.Kind{
		{ID: "units", Title: "Stop k0s", Find: f.units, Take: f.stopUnits},
		{ID: "processes", Title: "End the cluster's processes", Find: f.processNames, Take: f.endProcesses},
		{ID: "mounts", Title: "Unmount what the cluster mounted", Find: f.mounts, Take: f.unmount},
		{ID: "cgroups", Title: "Remove pods' cgroups", Find: f.cgroups, Take: f.removeCgroups},
	}
}

type finder struct {
	leftover.Finder
	grace    time.Duration // for k0s to stop by itself
	podGrace time.Duration // for pods; a third of kubelet's own, as a reset is to take half a minute
}

func (f finder) units(ctx context.Context) ([]string, error) {
	var all []string
	for _, unit := range leftover.Units() {
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

// stopUnits gives k0s a while to stop by itself, and kills it when it hangs.
func (f finder) stopUnits(ctx context.Context) error {
	return leftover.Each(leftover.Units(), func(unit string) error {
		gently, cancel := context.WithTimeout(ctx, f.grace)
		defer cancel()
		err := f.StopUnit(gently, unit)
		if err == nil || gently.Err() == nil || ctx.Err() != nil {
			return err
		}
		if err := f.Act(ctx, "systemctl", "kill", "--signal=KILL", unit); err != nil {
			return err
		}
		return f.StopUnit(ctx, unit)
	})
}

// processes finds the cluster's processes: k0s, whatever runs from its data
// folder, its containerd's shims, all that descends from these, and what is
// left of pods whose shim is gone. Never the caller or one of its parents.
func (f finder) processes() ([]host.Process, error) {
	list, err := f.ListProcesses()
	if err != nil {
		return nil, err
	}
	parent := map[int]int{}
	own := map[int]bool{}
	roots := f.cgroupRoots("1")
	for _, p := range list {
		parent[p.PID] = p.PPID
		own[p.PID] = f.ownProcess(p) || inKubepods(roots, f.cgroupsOf(p.PID))
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

// ownProcess tells by the executable, or for a shim by whose containerd it
// serves.
func (f finder) ownProcess(p host.Process) bool {
	switch {
	case leftover.Below(p.Exe, f.DataDir+"/bin"):
		return true
	case p.Exe == f.Binary:
		return len(p.Args) > 1 && (p.Args[1] == "controller" || p.Args[1] == "worker")
	case isShim(p):
		i := slices.Index(p.Args, "-address")
		return i >= 0 && i+1 < len(p.Args) && leftover.Below(p.Args[i+1], f.RunDir)
	}
	return false
}

// cgroupsOf maps each cgroup hierarchy to the path that pid has in it.
func (f finder) cgroupsOf(pid int) map[string]string { return f.cgroupRoots(strconv.Itoa(pid)) }

func (f finder) cgroupRoots(pid string) map[string]string {
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

// inKubepods reports whether a process is in the cgroup that kubelet makes for
// pods right below the host's own root. One further down, such as that of a
// cluster in a container, is foreign.
func inKubepods(roots, cgroups map[string]string) bool {
	for hierarchy, p := range cgroups {
		rest, ok := strings.CutPrefix(p, roots[hierarchy]+"/kubepods")
		if ok && (rest == "" || rest[0] == '/' || rest == ".slice" || strings.HasPrefix(rest, ".slice/")) {
			return true
		}
	}
	return false
}

func (f finder) processNames(context.Context) ([]string, error) {
	list, err := f.processes()
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

// endProcesses lets the pods' programs end by themselves, then kills until none
// is left: a process may start another one while it is being killed.
func (f finder) endProcesses(ctx context.Context) error {
	if err := f.askPods(ctx); err != nil {
		return err
	}
	return wait.Until(ctx, wait.Options{What: "the cluster's processes to end", Timeout: 20 * time.Second, Interval: 100 * time.Millisecond,
		Culprit: f.deaf, Next: "ps -eo pid,stat,wchan:32,args"},
		func(context.Context) (bool, string, error) {
			list, err := f.processes()
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

// deaf says in which state the first process is that does not end. One that the
// kernel keeps waiting, for a disk or a mount that is gone, cannot be killed.
func (f finder) deaf(context.Context) string {
	list, err := f.processes()
	if err != nil || len(list) == 0 {
		return ""
	}
	status, _ := f.ReadFile(fmt.Sprintf("/proc/%d/status", list[0].PID)) // what has ended says nothing
	for line := range strings.Lines(string(status)) {
		if state, ok := strings.CutPrefix(line, "State:"); ok {
			return fmt.Sprintf("process %d is in state %s", list[0].PID, strings.Join(strings.Fields(state), " "))
		}
	}
	return ""
}

// askPods tells the first program of each container to end, as kubelet does
// with a pod that is deleted, so that a database can close its files. What has
// not ended after the grace is left to be killed.
func (f finder) askPods(ctx context.Context) error {
	asked := map[int]bool{}
	err := wait.Until(ctx, wait.Options{What: "the pods' programs to end", Timeout: f.podGrace, Interval: 100 * time.Millisecond},
		func(context.Context) (bool, string, error) {
			list, err := f.containers()
			for _, p := range list {
				if !asked[p.PID] {
					asked[p.PID] = true
					err = errors.Join(err, f.Terminate(p.PID))
				}
			}
			return len(list) == 0, fmt.Sprintf("%d have not", len(list)), err
		})
	if late := (*wait.TimeoutError)(nil); errors.As(err, &late) {
		return nil
	}
	return err
}

// containers is the first program of each container: what a shim of this
// cluster's containerd started, by whatever name.
func (f finder) containers() ([]host.Process, error) {
	list, err := f.processes()
	shims := map[int]bool{}
	for _, p := range list {
		shims[p.PID] = isShim(p)
	}
	return slices.DeleteFunc(list, func(p host.Process) bool { return !shims[p.PPID] || isShim(p) }), err
}

func isShim(p host.Process) bool { return strings.HasPrefix(path.Base(p.Exe), "containerd-shim") }
