package cleanup

import (
	"context"
	"github.com/plinthdev/plinth/internal/testkit"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
)

func workloadKind(t *testing.T, f *hosttest.Fake, id string) Kind {
	t.Helper()
	for _, k := range WorkloadKinds(Finder{Host: f.Host(), Scope: DefaultScope()}) {
		if k.ID == id {
			return k
		}
	}
	t.Fatalf("no kind %s", id)
	return Kind{}
}

func TestWorkloadKinds_StopUnitsThatRunOrStartAtBoot(t *testing.T) {
	cases := map[string]struct {
		state host.UnitState
		found bool
	}{
		"running":             {host.UnitState{Load: "loaded", Active: "active", Enable: "enabled"}, true},
		"restarting forever":  {host.UnitState{Load: "loaded", Active: "activating", Enable: "disabled"}, true},
		"stopped but enabled": {host.UnitState{Load: "loaded", Active: "inactive", Enable: "enabled"}, true},
		"failed and disabled": {host.UnitState{Load: "loaded", Active: "failed", Enable: "disabled"}, false},
		"unknown":             {host.UnitState{Load: "not-found", Active: "inactive"}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			f.Units["k0scontroller.service"] = c.state
			r := workloadKind(t, f, "units").Remove(t.Context())
			if (len(r.Removed) == 1) != c.found || r.Err != nil || len(r.Remaining) > 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// hangingUnits implements host.Units with a unit that stops only after it was killed.
type hangingUnits struct {
	*hosttest.Fake
	killed bool
}

func (h *hangingUnits) StopUnit(ctx context.Context, unit string) error {
	if !h.killed && unit == "k0scontroller.service" {
		<-ctx.Done()
		return ctx.Err()
	}
	return h.Fake.StopUnit(ctx, unit)
}

func TestStopUnits_KillsHangingUnit(t *testing.T) {
	f := hosttest.New(t)
	f.Units["k0scontroller.service"] = host.UnitState{Load: "loaded", Active: "active", Enable: "enabled"}
	h := f.Host()
	units := &hangingUnits{Fake: f}
	h.Units = units
	f.Expect("systemctl kill --signal=KILL k0scontroller.service").Do(func(host.Cmd) { units.killed = true })
	if err := (workloadFinder{Finder: Finder{Host: h, Scope: DefaultScope()}, units: K0sUnitNames(), stopGrace: time.Millisecond}).stopUnits(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := f.Units["k0scontroller.service"]; st.Running() {
		t.Errorf("still running: %+v", st)
	}
}

func TestWorkloadKinds_EndProcessesOfClusterOnly(t *testing.T) {
	const shim = "/var/lib/k0s/bin/containerd-shim-runc-v2"
	self := os.Getpid()
	own := []host.Process{
		{PID: 20, PPID: 1, Exe: "/usr/local/bin/k0s", Args: []string{"/usr/local/bin/k0s", "controller"}},
		{PID: 21, PPID: 20, Exe: "/var/lib/k0s/bin/kube-apiserver"},
		{PID: 30, PPID: 1, Exe: shim, Args: []string{shim, "-namespace", "k8s.io", "-address", "/run/k0s/containerd.sock"}},
		{PID: 31, PPID: 30, Exe: "/pause"},
		{PID: 32, PPID: 30, Exe: "/usr/local/bin/kube-router"},
		{PID: 33, PPID: 32, Args: []string{"[zombie]"}},
		{PID: 40, PPID: 1, Exe: "/coredns"}, // its shim has ended
		{PID: 41, PPID: 1, Exe: "/app"},     // the same with systemd's cgroup driver
		{PID: 50, PPID: 1, Exe: "/opt/moved/containerd-shim-runc-v2", Args: []string{"x", "-address", "/run/k0s/containerd.sock"}},
	}
	foreign := []host.Process{
		{PID: 1, Exe: "/usr/lib/systemd/systemd"},
		{PID: 60, PPID: 1, Exe: "/usr/bin/containerd-shim-runc-v2", Args: []string{"x", "-namespace", "moby", "-address", "/run/containerd/containerd.sock"}},
		{PID: 61, PPID: 60, Exe: "/usr/bin/kubelet"}, // a cluster in a container
		{PID: 62, PPID: 1, Exe: "/usr/local/bin/k0s", Args: []string{"k0s", "status"}},
		{PID: 63, PPID: 1, Exe: "/var/lib/k0s-backup/tool"},
		{PID: 70, PPID: 32, Exe: "/bin/sh"}, // a shell in a pod, from which this test runs
		{PID: self, PPID: 70, Exe: "/usr/local/bin/plinth"},
		{PID: 64, PPID: 65}, {PID: 65, PPID: 64}, // a loop: read while processes changed
	}
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{
		"/proc/1/cgroup":  "5:memory:/lab-a/init.scope\n1:name=systemd:/init.scope\n0::/init.scope\n",
		"/proc/40/cgroup": "5:memory:/lab-a/kubepods/burstable/podx/y\n0::/\n",
		"/proc/41/cgroup": "0::/kubepods.slice/kubepods-podx.slice/cri-containerd-y.scope\n",
		"/proc/61/cgroup": "5:memory:/docker/abc/kubepods/podx\n0::/system.slice/docker-abc.scope/kubepods.slice/x\n",
		"/proc/63/cgroup": "5:memory:/lab-b/kubepods/podx\n0::/kubepods-mine/x\n",
	})
	f.Processes = append(append([]host.Process{}, foreign...), own...)
	r := workloadKind(t, f, "processes").Remove(t.Context())
	if r.Err != nil || len(r.Remaining) > 0 {
		t.Errorf("left %q, %v", r.Remaining, r.Err)
	}
	// 30 and 32 are ancestors of this process.
	want := append(append([]host.Process{}, foreign...), own[2], own[4])
	if len(f.Processes) != len(want) {
		t.Errorf("still there: %v\nwant: %v", f.Processes, want)
	}
	for _, p := range r.Removed {
		pid, _ := strconv.Atoi(strings.Fields(p)[0])
		for _, q := range foreign {
			if q.PID == pid {
				t.Errorf("ended a process of other software: %s", p)
			}
		}
	}
}

func TestEndProcesses_TerminatesPodsBeforeKilling(t *testing.T) {
	const shim = "/var/lib/k0s/bin/containerd-shim-runc-v2"
	f := hosttest.New(t)
	f.Processes = []host.Process{
		{PID: 21, PPID: 1, Exe: "/var/lib/k0s/bin/kube-apiserver"},
		{PID: 30, PPID: 1, Exe: shim, Args: []string{shim, "-address", "/run/k0s/containerd.sock"}},
		{PID: 31, PPID: 30, Exe: "/pause"},
		{PID: 32, PPID: 30, Exe: "/usr/lib/postgresql/bin/postgres"},
		{PID: 33, PPID: 32, Exe: "/usr/lib/postgresql/bin/postgres"},
		{PID: 34, PPID: 30, Exe: "/bin/ignores-sigterm"},
		{PID: 60, PPID: 1, Exe: "/usr/bin/containerd-shim-runc-v2", Args: []string{"x", "-address", "/run/containerd/containerd.sock"}},
		{PID: 61, PPID: 60, Exe: "/foreign"},
	}
	f.IgnoresSIGTERM = []int{34}
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/1/cgroup": "0::/\n", "/proc/33/cgroup": "0::/kubepods/burstable/podx/y\n"})
	pods := workloadFinder{Finder: Finder{Host: f.Host(), Scope: DefaultScope()}, podGrace: 20 * time.Millisecond}
	if err := pods.endProcesses(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []int{31, 32, 34}; !slices.Equal(f.Terminated, want) {
		t.Errorf("terminated: %v, want %v", f.Terminated, want)
	}
	if len(f.Processes) != 2 || f.Processes[0].PID != 60 || f.Processes[1].PID != 61 {
		t.Errorf("still there: %v", f.Processes)
	}
}

func mountTable(points ...string) string {
	var b strings.Builder
	b.WriteString("24 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
	for _, p := range points {
		b.WriteString("96 24 0:60 / " + p + " rw - tmpfs tmpfs rw\n")
	}
	return b.String()
}

func TestUnmountAll_RepeatsUntilNothingIsLeft(t *testing.T) {
	const a, b, c = "/var/lib/kubelet/pods/a", "/run/k0s/b", "/var/lib/k0s/c"
	f := hosttest.New(t)
	set := func(points ...string) func(host.Cmd) {
		return func(host.Cmd) {
			testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": mountTable(points...)})
		}
	}
	set(a, b, c)(host.Cmd{})
	f.Expect("umount " + c).Do(set(a, b))
	f.Expect("umount " + b).Do(set()) // unmounts a too
	f.Expect("umount "+a).Return("", &host.CommandError{Code: 32, Tail: "not mounted"})
	if r := workloadKind(t, f, "mounts").Remove(t.Context()); r.Err != nil || len(r.Remaining) > 0 || !reflect.DeepEqual(r.Removed, []string{c, b, a}) {
		t.Errorf("%+v", r)
	}
}

func TestUnmountAll_IsLazyOnlyAtTheEnd(t *testing.T) {
	const a, b = "/var/lib/kubelet/pods/a", "/run/k0s/b"
	busy := &host.CommandError{Code: 32, Tail: "target is busy"}
	f := hosttest.New(t)
	set := func(points ...string) func(host.Cmd) {
		return func(host.Cmd) {
			testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/proc/self/mountinfo": mountTable(points...)})
		}
	}
	set(a, b)(host.Cmd{})
	f.Expect("umount "+b).Return("", nil).Do(set(a))
	f.Expect("umount "+a).Return("", busy)
	f.Expect("umount "+a).Return("", busy)
	f.Expect("umount -l "+a).Return("", busy)
	r := workloadKind(t, f, "mounts").Remove(t.Context())
	if r.Err == nil || !reflect.DeepEqual(r.Remaining, []string{a}) {
		t.Errorf("%+v; want %s to remain", r, a)
	}
}

func TestWorkloadKinds_RemoveInnermostCgroupsFirst(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{
		"/proc/self/mountinfo":                                     "30 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n31 24 0:28 /x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
		"/sys/fs/cgroup/kubepods/besteffort/pod1/cgroup.procs":     "",
		"/sys/fs/cgroup/memory/kubepods/cgroup.procs":              "",
		"/sys/fs/cgroup/system.slice/kubepods/cgroup.procs":        "",
		"/sys/fs/cgroup/memory/docker/kubepods.slice/cgroup.procs": "",
	})
	want := []string{"/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/memory/kubepods"}
	remove := func(c host.Cmd) { _ = os.RemoveAll(filepath.Join(f.Root, c.Argv[len(c.Argv)-1])) }
	f.Expect("rmdir /sys/fs/cgroup/kubepods/besteffort/pod1 /sys/fs/cgroup/kubepods/besteffort /sys/fs/cgroup/kubepods").Do(remove)
	f.Expect("rmdir /sys/fs/cgroup/memory/kubepods").Do(remove)
	if r := workloadKind(t, f, "cgroups").Remove(t.Context()); r.Err != nil || !reflect.DeepEqual(r.Removed, want) {
		t.Errorf("removed %q, %v; want %q", r.Removed, r.Err, want)
	}
}

func TestFindCgroups_IncludesContainerdUnlessUnitOfHost(t *testing.T) {
	const memory, systemd = "/sys/fs/cgroup/memory/system.slice", "/sys/fs/cgroup/systemd/system.slice"
	before := &HostState{Paths: map[string]PathState{systemd: {}}}
	cases := map[string]struct {
		before  *HostState
		running bool
		want    []string
	}{
		"made by kubelet":             {before, false, []string{memory, systemd + "/containerd.service"}},
		"a unit of the host":          {before, true, nil},
		"the state before is unknown": {nil, false, []string{memory + "/containerd.service", systemd + "/containerd.service"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			testkit.WriteFiles(t, f.Root, 0o644, map[string]string{
				"/proc/self/mountinfo":                      "30 24 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n31 24 0:28 /x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
				memory + "/containerd.service/cgroup.procs": "", systemd + "/containerd.service/cgroup.procs": "", systemd + "/dbus.service/cgroup.procs": "",
			})
			if c.running {
				f.Units["containerd.service"] = host.UnitState{Load: "loaded", Active: "active"}
			}
			cl := DefaultScope()
			cl.Before = c.before
			got, err := workloadFinder{Finder: Finder{Host: f.Host(), Scope: cl}}.findCgroups(t.Context())
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("found %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestWorkloadKinds_StopSliceOfKubelet(t *testing.T) {
	f := hosttest.New(t)
	f.Units["kubepods.slice"] = host.UnitState{Load: "loaded", Active: "active"}
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{
		"/proc/self/mountinfo": "30 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
		"/sys/fs/cgroup/kubepods.slice/kubepods-pod1.slice/cgroup.procs": "",
	})
	f.Expect("systemctl stop kubepods.slice").Do(func(host.Cmd) { _ = os.RemoveAll(filepath.Join(f.Root, "/sys/fs/cgroup/kubepods.slice")) })
	if r := workloadKind(t, f, "cgroups").Remove(t.Context()); r.Err != nil || len(r.Remaining) > 0 {
		t.Errorf("%+v", r)
	}
}
