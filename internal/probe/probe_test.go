package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
)

// fakeSystem returns a System that answers without reading this machine.
func fakeSystem() System {
	return System{
		Arch: "amd64", Now: func() time.Time { return time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC) },
		BindPort: func(context.Context, facts.PortKey) error { return nil },
		StatFilesystem: func(string) (DiskSpace, error) {
			return DiskSpace{Size: 100, Free: 50, Available: 40, Inodes: 10, InodesFree: 5}, nil
		},
		ResolveName: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.1.1")}, nil
		},
		QueryNameserver: func(context.Context, netip.Addr) error { return nil },
		RequestURL:      func(context.Context, string, string) (int, time.Time, error) { return 200, time.Time{}, nil },
		ResolveAt: func(context.Context, string, string) ([]netip.Addr, error) {
			return nil, &net.DNSError{IsNotFound: true}
		},
		DialTCP:        func(context.Context, string) error { return nil },
		TestBalancer:   func(context.Context, facts.BalancerKey) string { return "connected" },
		XFSFType:       func(string) string { return "1" },
		ListInterfaces: func() ([]facts.Interface, error) { return []facts.Interface{{Name: "eth0", Up: true}}, nil },
		ClockSynced:    func() (bool, error) { return true, nil },
		Readlink:       func(string) (string, error) { return "", fs.ErrNotExist },
	}
}

// newFakeHost returns a host with the given text files. No command may run on
// it.
func newFakeHost(t *testing.T, texts map[string]string) *hosttest.Fake {
	t.Helper()
	fake := hosttest.New(t)
	for p, text := range texts {
		real := filepath.Join(fake.Root, p)
		if err := os.MkdirAll(filepath.Dir(real), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(real, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return fake
}

func gatherFrom(t *testing.T, texts map[string]string, k System, req facts.Request) facts.Facts {
	t.Helper()
	return gatherFacts(t.Context(), newProber(newFakeHost(t, texts).Host(), k, req), time.Minute)
}

// gatherLocal gathers facts about this machine, with enough time even if the
// machine is busy.
func gatherLocal(t *testing.T, req facts.Request) facts.Facts {
	t.Helper()
	return gatherFacts(t.Context(), newProber(host.Local("/"), localSystem(), req), time.Minute)
}

func TestGatherFacts_ReportsThisMachine(t *testing.T) {
	f := gatherLocal(t, facts.Request{
		Ports: []facts.PortKey{{Number: 6443, Protocol: "tcp"}}, Paths: []string{"/var/lib/plinth", "/etc"},
		Commands: []string{"mount"}, Units: []string{"docker"}, Lookups: []string{"localhost"},
	})
	for _, fact := range []string{facts.FactOS, facts.FactKernel, facts.FactCPU, facts.FactMemory, facts.FactCgroup, facts.FactDisk, facts.FactHostname, facts.FactNetwork, facts.FactClock, facts.FactPrivilege} {
		if why := f.UnknownReason(fact); why != "" {
			t.Errorf("%s: %s", fact, why)
		}
	}
	if f.Kernel.Release == "" || f.CPU.Count < 1 || f.Memory.Total == 0 || len(f.Disks) != 2 || f.Disks[0].Size == 0 || len(f.Network.Interfaces) == 0 {
		t.Errorf("%+v", f)
	}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var back facts.Facts
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(back); !bytes.Equal(b, again) {
		t.Error("facts differ after encoding and decoding as JSON")
	}
}

func TestBindPorts_NamesOwnerOfPortInUse(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	keys := []facts.PortKey{
		{Number: tcp.Addr().(*net.TCPAddr).Port, Protocol: "tcp"}, // on all addresses, one of which is in use
		{Number: udp.LocalAddr().(*net.UDPAddr).Port, Protocol: "udp"},
		{Number: tcp.Addr().(*net.TCPAddr).Port, Protocol: "tcp", Address: "127.0.0.2"},
	}
	f := gatherLocal(t, facts.Request{Ports: keys})
	self, _ := os.Executable()
	for _, key := range keys[:2] {
		p, ok := f.Port(key)
		if !ok || p.Free || p.Error != "EADDRINUSE" || p.Owner == nil || p.Owner.PID != os.Getpid() || p.Owner.Program != self || len(p.Owner.Parents) == 0 {
			t.Errorf("%s: %+v, owner %+v", key, p, p.Owner)
		}
	}
	if p, ok := f.Port(keys[2]); !ok || !p.Free {
		t.Errorf("%s: %+v", keys[2], p)
	}
}

func TestBindPorts_ReleasesPorts(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	key := facts.PortKey{Number: l.Addr().(*net.TCPAddr).Port, Protocol: "tcp"}
	l.Close()
	for range 2 {
		f := gatherLocal(t, facts.Request{Ports: []facts.PortKey{key}})
		if p, _ := f.Port(key); !p.Free {
			t.Fatalf("%+v", p)
		}
	}
}

func TestBindPorts_RetriesPortWhoseOwnerExited(t *testing.T) {
	k, tries := fakeSystem(), 0
	k.BindPort = func(context.Context, facts.PortKey) error {
		if tries++; tries == 1 {
			return &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", unix.EADDRINUSE)}
		}
		return nil
	}
	f := gatherFrom(t, nil, k, facts.Request{Ports: []facts.PortKey{{Number: 8132, Protocol: "tcp"}}})
	if len(f.Ports) != 1 || !f.Ports[0].Free || tries != 2 {
		t.Errorf("after %d tries: %+v", tries, f.Ports)
	}
}

func TestBindPorts_ReportsForbiddenPortAsUnknown(t *testing.T) {
	k := fakeSystem()
	k.BindPort = func(_ context.Context, key facts.PortKey) error {
		if key.Number < 1024 {
			return &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", unix.EACCES)}
		}
		return &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", unix.EADDRNOTAVAIL)}
	}
	f := gatherFrom(t, nil, k, facts.Request{Ports: []facts.PortKey{{Number: 179, Protocol: "tcp"}, {Number: 6443, Protocol: "tcp", Address: "192.0.2.1"}}})
	if got := f.UnknownReason("port:179/tcp"); got != "binding it is not permitted (EACCES)" {
		t.Errorf("179: %q", got)
	}
	if len(f.Ports) != 1 || f.Ports[0].Error != "EADDRNOTAVAIL" || f.Ports[0].Owner != nil {
		t.Errorf("%+v", f.Ports)
	}
}

func TestGatherFacts_ReportsHangingPartAsUnknown(t *testing.T) {
	k := fakeSystem()
	release := make(chan struct{})
	defer close(release)
	k.StatFilesystem = func(p string) (DiskSpace, error) { // a dead NFS server: the call does not return even if ctx ends
		if p == "/mnt/nfs" {
			<-release
		}
		return DiskSpace{Size: 1}, nil
	}
	start := time.Now()
	l := newProber(newFakeHost(t, map[string]string{"/proc/self/mountinfo": "27 1 254:0 / / rw - ext4 /dev/vda rw\n", "/mnt/nfs/.keep": ""}).Host(), k, facts.Request{Paths: []string{"/mnt/nfs", "/var"}})
	f := gatherFacts(t.Context(), l, time.Second)
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if got := f.UnknownReason("disk:/mnt/nfs"); got != "no answer within 1s" {
		t.Errorf("why: %q", got)
	}
	if d, ok := f.Disk("/var"); !ok || d.Size != 1 {
		t.Errorf("the other disk: %+v", d)
	}
}

func TestGatherFacts_SendsNoQueriesIfNear(t *testing.T) {
	for near, want := range map[bool]int{false: 2, true: 0} {
		t.Run(fmt.Sprintf("near=%t", near), func(t *testing.T) {
			queries := make(chan string, 10)
			k := fakeSystem()
			k.QueryNameserver = func(context.Context, netip.Addr) error { queries <- "name server"; return nil }
			k.ResolveName = func(_ context.Context, name string) ([]netip.Addr, error) { queries <- name; return nil, nil }
			f := gatherFrom(t, map[string]string{"/etc/resolv.conf": "nameserver 192.0.2.1\n", "/proc/sys/kernel/hostname": "h\n", "/proc/net/route": "Iface\n"}, k, facts.Request{LocalOnly: near})
			if len(queries) != want || f.Hostname != "h" {
				t.Errorf("near %v: %d queries, host %q", near, len(queries), f.Hostname)
			}
		})
	}
}

func TestGatherFacts_ReportsUnreadableFilesAsUnknown(t *testing.T) {
	f := gatherFrom(t, nil, fakeSystem(), facts.Request{Paths: []string{"/var"}})
	for _, fact := range []string{facts.FactOS, facts.FactKernel, facts.FactCPU, facts.FactMemory, facts.FactCgroup, "disk:/var", facts.FactHostname, facts.FactNetwork, facts.FactPrivilege, facts.FactIptables} {
		if f.UnknownReason(fact) == "" {
			t.Errorf("%s is not reported as unknown", fact)
		}
	}
	for _, fact := range []string{facts.FactMachineID, facts.FactSecurity, facts.FactTraces, facts.FactCommands, facts.FactSystemd} {
		if why := f.UnknownReason(fact); why != "" {
			t.Errorf("%s: %s; a missing file must be a fact", fact, why)
		}
	}
}

func TestGatherCgroup_CountsMountedControllersOnly(t *testing.T) {
	const v1 = "33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n34 32 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	const list = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\ncpuacct\t1\t1\t1\nmemory\t2\t1\t0\npids\t3\t1\t1\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  facts.Cgroup
	}{
		"version 1, memory disabled, pids not mounted": {map[string]string{"/proc/self/mountinfo": v1, "/proc/cgroups": list}, facts.Cgroup{Version: 1, Controllers: []string{"cpu", "cpuacct"}}},
		"hybrid": {map[string]string{"/proc/self/mountinfo": v1 + "40 32 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/proc/cgroups": list}, facts.Cgroup{Version: 1, Hybrid: true, Controllers: []string{"cpu", "cpuacct"}}},
		"version 2": {map[string]string{"/proc/self/mountinfo": "40 32 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n"},
			facts.Cgroup{Version: 2, Controllers: []string{"cpu", "cpuset", "io", "memory", "pids"}}},
		"version 2, and a version 1 hierarchy elsewhere": {map[string]string{"/proc/self/mountinfo": "40 32 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n41 32 0:41 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls\n42 32 0:42 / /mnt/cpu rw - cgroup cgroup rw,cpu\n",
			"/sys/fs/cgroup/cgroup.controllers": "memory pids\n", "/proc/cgroups": list}, facts.Cgroup{Version: 2, Controllers: []string{"memory", "pids"}}},
		"version 2 elsewhere only": {map[string]string{"/proc/self/mountinfo": "40 32 0:40 / /mnt/unified rw - cgroup2 cgroup2 rw\n"}, facts.Cgroup{}},
		"version 2, mounted over version 1": {map[string]string{"/proc/self/mountinfo": "31 27 0:31 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" + v1 + "40 32 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			"/sys/fs/cgroup/cgroup.controllers": "cpu\n"}, facts.Cgroup{Version: 2, Controllers: []string{"cpu"}}},
		"none": {map[string]string{"/proc/self/mountinfo": "27 1 254:0 / / rw - ext4 /dev/vda rw\n"}, facts.Cgroup{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := gatherFrom(t, c.files, fakeSystem(), facts.Request{})
			if f.Cgroup.Version != c.want.Version || f.Cgroup.Hybrid != c.want.Hybrid || !slices.Equal(f.Cgroup.Controllers, c.want.Controllers) {
				t.Errorf("%s: %+v, want %+v", name, f.Cgroup, c.want)
			}
		})
	}
}

func TestFindTraces_IgnoresEmptyDirectories(t *testing.T) {
	k := fakeSystem()
	k.ListInterfaces = func() ([]facts.Interface, error) {
		return []facts.Interface{{Name: "eth0"}, {Name: "kube-bridge", Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.0.1/24")}}}, nil
	}
	fake := newFakeHost(t, map[string]string{
		"/usr/local/bin/k0s": "x", "/var/lib/kubelet/pki/kubelet.crt": "x", "/var/lib/etcd/lost+found/x": "", "/etc/cni/net.d/10-flannel.conflist": "{}", "/etc/cni/net.d/README": "no",
		"/etc/k0s/containerd.d/10-mine.toml": "", "/srv/k0s/lost+found/x": "", "/data/k0s/pki/ca.crt": "x",
	})
	if err := os.MkdirAll(filepath.Join(fake.Root, "var/lib/k0s"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := gatherFacts(t.Context(), newProber(fake.Host(), k, facts.Request{DataDirs: []string{"/var/lib/k0s", "/srv/k0s", "/data/k0s"}}), time.Minute)
	var got []string
	for _, tr := range f.Traces {
		got = append(got, fmt.Sprintf("%s %s %s %s", tr.Software, tr.Kind, tr.Path, tr.Detail))
	}
	want := []string{"cni cni-config /etc/cni/net.d/10-flannel.conflist ", "cni link kube-bridge 10.244.0.1/24",
		"k0s file /usr/local/bin/k0s ", "k0s data /data/k0s ", "kubelet data /var/lib/kubelet/pki "}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFindTraces_DataNeedsFilesAndSocketNeedsListener(t *testing.T) {
	const listening = "Num RefCount Protocol Flags Type St Inode Path\n0: 00000002 00000000 00010000 0001 01 9 /var/run/docker.sock\n0: 00000003 00000000 00000000 0001 03 10 /run/containerd/containerd.sock\n"
	for name, c := range map[string]struct {
		files, links map[string]string
		want         []string
	}{
		"a disk for etcd, prepared":               {map[string]string{"/var/lib/k0s/etcd/lost+found/x": ""}, nil, nil},
		"only empty directories":                  {map[string]string{"/etc/kubernetes/manifests/lost+found/x": ""}, nil, nil},
		"files below":                             {map[string]string{"/var/lib/k0s/etcd/member/snap/db": ""}, nil, []string{"/var/lib/k0s"}},
		"a link to an empty directory":            {map[string]string{"/data/lost+found/x": ""}, map[string]string{"/var/lib/k0s": "../../data"}, nil},
		"a link to a directory with files":        {map[string]string{"/data/pki/ca.crt": ""}, map[string]string{"/var/lib/k0s": "../../data"}, []string{"/var/lib/k0s"}},
		"a link to nothing":                       {nil, map[string]string{"/var/lib/k0s": "../../data"}, nil},
		"a socket with a listener":                {map[string]string{"/run/docker.sock": "", "/proc/net/unix": listening}, nil, []string{"/run/docker.sock"}},
		"a socket that a stopped program left":    {map[string]string{"/run/containerd/containerd.sock": "", "/proc/net/unix": listening}, nil, nil},
		"a socket, and no list of listening ones": {map[string]string{"/run/crio/crio.sock": ""}, nil, []string{"/run/crio/crio.sock"}},
	} {
		t.Run(name, func(t *testing.T) {
			fake, k := linkedHost(t, c.files, c.links)
			var got []string
			for _, tr := range gatherFacts(t.Context(), newProber(fake.Host(), k, facts.Request{}), time.Minute).Traces {
				got = append(got, tr.Path)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestFindPodMounts_LeavesOutOthers(t *testing.T) {
	for point, want := range map[string]bool{
		"/run/containerd/io.containerd.runtime.v2.task/moby/0a/rootfs": false, "/run/containerd/io.containerd.runtime.v2.task/default/0a/rootfs": false,
		"/var/lib/k0s": false, "/var/lib/k0s/etcd": false, "/var/lib/k0s/containerd": false, "/var/lib/kubelet": false, "/var/lib/rancher": false, "/run/netns/netns-4711": false,
		"/run/containerd/io.containerd.runtime.v2.task/k8s.io/0a/rootfs": true, "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/0a/shm": true,
		"/var/lib/k0s/kubelet/pods/a/volumes/b": true, "/var/lib/kubelet/pods/a/volumes/b": true, "/run/k0s/containerd/io.containerd.runtime.v2.task/k8s.io/a/rootfs": true, "/run/netns/cni-4711": true,
	} {
		t.Run(point, func(t *testing.T) {
			f := gatherFrom(t, map[string]string{"/proc/self/mountinfo": "50 27 0:3 / " + point + " rw - overlay overlay rw\n"}, fakeSystem(), facts.Request{})
			if got := len(f.Traces) == 1; got != want {
				t.Errorf("%+v", f.Traces)
			}
		})
	}
}

func TestGatherSettings_ReadsSysctlConfOnlyByLink(t *testing.T) {
	for name, c := range map[string]struct {
		links map[string]string
		want  []string
	}{
		"without a link":                      {nil, nil},
		"with the link of Debian 12 and RHEL": {map[string]string{"/etc/sysctl.d/99-sysctl.conf": "../sysctl.conf"}, []string{"/etc/sysctl.d/99-sysctl.conf"}},
		"hidden by an empty file":             {map[string]string{"/usr/lib/sysctl.d/60-x.conf": "../../../etc/sysctl.conf", "/etc/sysctl.d/60-x.conf": "../none"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			fake, k := linkedHost(t, map[string]string{"/etc/sysctl.conf": "net.ipv4.ip_forward=0\n", "/proc/1/limits": "Max open files            1024                 524288               files     \n"}, c.links)
			var got []string
			for _, set := range gatherFacts(t.Context(), newProber(fake.Host(), k, facts.Request{Sysctls: []string{"net.ipv4.ip_forward"}}), time.Minute).Settings.Files {
				got = append(got, set.Path)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestGatherPrivilege_RecognizesUserNamespace(t *testing.T) {
	for uidMap, want := range map[string]bool{"         0          0 4294967295\n": false, "         0     100000      65536\n": true, "": false} {
		t.Run(uidMap, func(t *testing.T) {
			f := gatherFrom(t, map[string]string{"/proc/self/status": status, "/proc/self/uid_map": uidMap}, fakeSystem(), facts.Request{})
			if f.Privilege.UserNamespace != want {
				t.Errorf("%+v", f.Privilege)
			}
		})
	}
}

func TestGatherFacts_QueriesSystemdAndFirewallWithFourCommands(t *testing.T) {
	fake := newFakeHost(t, map[string]string{"/run/systemd/system/.keep": "", "/usr/sbin/iptables-nft-save": "", "/usr/sbin/iptables-legacy-save": "", "/usr/sbin/iptables-save": "", "/usr/sbin/nft": ""})
	fake.Expect("systemctl show --no-pager --property=Version,SystemState").Return("Version=252\nSystemState=degraded\n", nil)
	fake.Expect("systemctl show --no-pager --property=Id,LoadState,ActiveState,FragmentPath,MainPID docker k3s").
		Return("MainPID=77\nId=docker.service\nLoadState=loaded\nActiveState=active\nFragmentPath=/lib/docker.service\n\nId=k3s.service\nLoadState=not-found\nActiveState=inactive\n", nil)
	fake.Expect("iptables-nft-save").Return("*filter\n:INPUT DROP [0:0]\n:KUBE-SERVICES - [0:0]\n-A INPUT -j KUBE-FIREWALL\n", nil)
	fake.Expect("nft -j list ruleset").Return(`{"nftables": [{"chain": {"family": "inet", "table": "guard", "name": "in", "type": "filter", "hook": "input", "policy": "drop"}}, {"chain": {"family": "inet", "table": "guard", "name": "KUBE-X"}},
		{"chain": {"family": "ip", "table": "filter", "name": "INPUT", "type": "filter", "hook": "input", "policy": "drop"}}, {"chain": {"family": "ip", "table": "filter", "name": "input", "type": "filter", "hook": "input", "policy": "drop"}}]}`, nil)
	f := gatherFacts(t.Context(), newProber(fake.Host(), fakeSystem(), facts.Request{Units: []string{"docker", "k3s"}}), time.Minute)
	if f.Systemd != (facts.Systemd{Booted: true, Version: "252", State: "degraded"}) {
		t.Errorf("%+v", f.Systemd)
	}
	if len(f.Units) != 1 || f.Units[0] != (facts.Unit{Name: "docker", Active: "active", Path: "/lib/docker.service", MainPID: 77}) {
		t.Errorf("%+v", f.Units)
	}
	if len(f.Traces) != 1 || f.Traces[0].Detail != "lines with KUBE-: 2" {
		t.Errorf("%+v", f.Traces)
	}
	var chains []string
	for _, c := range f.Filters {
		chains = append(chains, c.Table+" "+c.Name)
	}
	// iptables does not print the chain in lower case; what it prints is not taken from nft too.
	if want := []string{"iptables filter INPUT", "iptables filter KUBE-SERVICES", "inet guard in", "inet guard KUBE-X", "ip filter input"}; !slices.Equal(chains, want) {
		t.Errorf("%q", chains)
	}
}

func TestGatherPackages_QueriesInstalledPackageManager(t *testing.T) {
	missing := &host.CommandError{Argv: []string{"dpkg-query"}, Code: 1, Tail: "no packages found matching b"}
	for name, c := range map[string]struct {
		file, output string
		err          error
		command      string
		why          string
	}{
		"dpkg":    {"/var/lib/dpkg/status", "a\tinstalled\t1.0\n", missing, "dpkg-query -W -f", ""},
		"rpm":     {"/usr/bin/rpm", "a\tinstalled\t1.0\npackage b is not installed\n", missing, "rpm -q --qf", ""},
		"neither": {"/etc/os-release", "", errors.New("rpm: executable file not found"), "rpm", "not found"},
		"hangs":   {"/usr/bin/rpm", "", errors.New("no end after 2s"), "rpm", "no end after 2s"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := newFakeHost(t, map[string]string{c.file: ""})
			fake.Expect(c.command).Return(c.output, c.err)
			f := gatherFacts(t.Context(), newProber(fake.Host(), fakeSystem(), facts.Request{Packages: []string{"a", "b"}}), time.Minute)
			if why := f.UnknownReason(facts.FactPackages); c.why == "" && (why != "" || !slices.Equal(f.Packages, []facts.Package{{Name: "a", Version: "1.0"}})) || !strings.Contains(why, c.why) {
				t.Errorf("%s: %v, %q", name, f.Packages, why)
			}
		})
	}
}

func TestGatherFacts_ReportsFailedCommandAsUnknown(t *testing.T) {
	fake := newFakeHost(t, map[string]string{"/run/systemd/system/.keep": "", "/usr/sbin/nft": ""})
	fake.Expect("systemctl").Return("", errors.New("`systemctl show`: no end after 2s")).AnyTimes()
	fake.Expect("nft -j list ruleset").Return("", errors.New("`nft list chains` ended with code 1: Operation not permitted"))
	f := gatherFacts(t.Context(), newProber(fake.Host(), fakeSystem(), facts.Request{Units: []string{"docker"}}), time.Minute)
	if !f.Systemd.Booted || !strings.Contains(f.UnknownReason(facts.FactSystemd), "no end after 2s") || !strings.Contains(f.UnknownReason(facts.FactIptables), "not permitted") {
		t.Errorf("%+v", f.Unknown)
	}
}

// linkedHost returns a host with symbolic links, by their path, and a System that reads
// them.
func linkedHost(t *testing.T, files, links map[string]string) (*hosttest.Fake, System) {
	t.Helper()
	fake, k := newFakeHost(t, files), fakeSystem()
	for link, target := range links {
		if err := errors.Join(os.MkdirAll(filepath.Join(fake.Root, filepath.Dir(link)), 0o755), os.Symlink(target, filepath.Join(fake.Root, link))); err != nil {
			t.Fatal(err)
		}
	}
	k.Readlink = func(p string) (string, error) { return os.Readlink(filepath.Join(fake.Root, p)) }
	return fake, k
}

func TestGatherDisk_FollowsPath(t *testing.T) {
	const mounts = "27 1 254:0 / / rw - ext4 /dev/vda rw\n41 27 8:2 / /data rw,noexec - xfs /dev/sda2 rw\n42 27 8:2 /k0s /srv rw - xfs /dev/sda2 rw\n" +
		"50 27 0:32 /@ /home rw,subvol=/@ - btrfs /dev/sdb rw\n51 27 0:32 /@data /mnt rw,subvol=/@data - btrfs /dev/sdb rw\n"
	fake, k := linkedHost(t, map[string]string{"/proc/self/mountinfo": mounts, "/data/.keep": "", "/srv/.keep": "", "/home/.keep": "", "/mnt/.keep": "", "/secret/k0s/.keep": ""},
		map[string]string{"/var/lib/k0s": "/data", "/var/lib/relative": "../../data/new/folder", "/var/lib/dangling": "/data/not/yet", "/var/lib/secret": "/secret/k0s", "/loop": "/loop"})
	if err := os.Chmod(filepath.Join(fake.Root, "secret"), 0o700); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]facts.Disk{
		"/var/lib/k0s/containerd": {Exists: "/data", Mount: "/data", Number: "8:2", Symlink: "/var/lib/k0s", Target: "/data"},
		"/var/lib/relative":       {Exists: "/data", Mount: "/data", Number: "8:2", Symlink: "/var/lib/relative", Target: "/data/new/folder"},
		"/var/lib/dangling":       {Exists: "/data", Mount: "/data", Number: "8:2", Symlink: "/var/lib/dangling", Target: "/data/not/yet"},
		"/var/lib/secret/x":       {Exists: "/secret/k0s", Mount: "/", Number: "254:0", Symlink: "/var/lib/secret", Target: "/secret/k0s", Closed: "/secret"},
		"/opt/new/place":          {Exists: "/", Mount: "/", Number: "254:0"},
		"/srv/x":                  {Exists: "/srv", Mount: "/srv", Number: "8:2"},
		"/home/k0s":               {Exists: "/home", Mount: "/home", Number: "0:32"},
		"/mnt/k0s":                {Exists: "/mnt", Mount: "/mnt", Number: "0:32"},
	} {
		t.Run(p, func(t *testing.T) {
			f := gatherFacts(t.Context(), newProber(fake.Host(), k, facts.Request{Paths: []string{p}}), time.Minute)
			d, _ := f.Disk(p)
			got := facts.Disk{Exists: d.Exists, Mount: d.Mount, Number: d.Number, Symlink: d.Symlink, Target: d.Target, Closed: d.Closed}
			if !reflect.DeepEqual(got, want) || d.Available != 40 {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
	f := gatherFacts(t.Context(), newProber(fake.Host(), k, facts.Request{Paths: []string{"/loop/x"}}), time.Minute)
	if why := f.UnknownReason("disk:/loop/x"); !strings.Contains(why, "too many levels of symbolic links") {
		t.Errorf("a loop: %q", why)
	}
}

func TestResolveName_ReportsOutcome(t *testing.T) {
	k := fakeSystem()
	k.ResolveName = func(ctx context.Context, name string) ([]netip.Addr, error) {
		switch name {
		case "node1":
			return []netip.Addr{netip.MustParseAddr("::ffff:127.0.1.1"), netip.MustParseAddr("127.0.1.1")}, nil
		case "gone":
			return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		case "refused":
			return nil, &net.DNSError{Err: "server misbehaving", Name: name, Server: "192.0.2.53:53"}
		}
		<-ctx.Done()
		return nil, &net.DNSError{Err: "i/o timeout", Name: name, IsTimeout: true}
	}
	l := newProber(newFakeHost(t, map[string]string{"/proc/sys/kernel/hostname": "node1\n"}).Host(), k, facts.Request{Lookups: []string{"gone", "refused", "silent"}})
	f := gatherFacts(t.Context(), l, time.Minute)
	for name, want := range map[string]string{"node1": "", "gone": "no such name", "refused": "name server 192.0.2.53:53: server misbehaving", "silent": "no answer within 1.5s"} {
		t.Run(name, func(t *testing.T) {
			got, ok := f.Lookup(name)
			if !ok || got.Error != want {
				t.Errorf("%s: %+v", name, got)
			}
		})
	}
	if got, _ := f.Lookup("node1"); len(got.Addresses) != 1 || f.Hostname != "node1" {
		t.Errorf("%s: %+v", f.Hostname, got)
	}
}

func TestGatherFacts_ReadsSmallFiles(t *testing.T) {
	f := gatherFrom(t, map[string]string{
		"/usr/lib/os-release": "ID=flatcar\n", "/etc/machine-id": "abc\n", "/sys/fs/selinux/enforce": "1", "/etc/ufw/ufw.conf": "# ufw\nENABLED=yes\n",
		"/usr/bin/mount": "", "/proc/meminfo": "MemTotal: 1024 kB\n", "/proc/swaps": "Filename Type Size Used Priority\n/dev/sda2 partition 10 0 -2\n",
	}, fakeSystem(), facts.Request{Commands: []string{"mount", "umount"}})
	if f.OS.ID != "flatcar" || f.OS.Arch != "amd64" || f.MachineID != "abc" || f.Security.SELinux != "enforcing" || !f.Security.UFW || f.Memory.Swap != 10<<10 {
		t.Errorf("%+v", f)
	}
	if len(f.Commands) != 1 || f.Commands["mount"] != "/usr/bin/mount" {
		t.Errorf("%+v", f.Commands)
	}
}

func TestGatherSettings_ReadsSettingsFiles(t *testing.T) {
	k := fakeSystem()
	k.Readlink = func(string) (string, error) { return "../usr/share/zoneinfo/Europe/Berlin", nil }
	limits := "Limit                     Soft Limit           Hard Limit           Units     \nMax processes             128450               unlimited            processes \nMax open files            1024                 524288               files     \n"
	texts := map[string]string{
		"/proc/1/limits": limits, "/proc/sys/net/ipv4/ip_forward": "0\n", "/proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
		"/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n", "/proc/sys/kernel/random/entropy_avail": "256\n",
		"/usr/lib/sysctl.d/50-default.conf": "net.ipv4.ip_forward=9\n", "/etc/sysctl.d/50-default.conf": "# none\n", "/etc/sysctl.d/99-cis.conf": "-net/ipv4/ip_forward = 0\nother.key = 1\n",
		"/etc/environment": "https_proxy=\"http://me:secret@proxy.example.com:3128\"\nNO_PROXY=localhost,10.0.0.0/8\n",
		"/etc/sudoers":     "Defaults\tsecure_path=\"/sbin:/bin\"\n", "/usr/share/zoneinfo/Europe/Berlin": "TZif",
		"/sys/class/rtc/rtc0/since_epoch": "1795248000\n", "/etc/resolv.conf": "nameserver 192.0.2.53\nsearch example.com corp\n",
		"/proc/net/route": "", "/proc/net/tcp": "  0: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0 0 4242 1\n",
	}
	f := gatherFrom(t, texts, k, facts.Request{Sysctls: []string{"net.ipv4.ip_forward", "net.ipv4.ip_local_port_range", "net.none"}})
	want := facts.Settings{Sysctls: map[string]string{"net.ipv4.ip_forward": "0", "net.ipv4.ip_local_port_range": "32768 60999"},
		Files:     []facts.SysctlFile{{Path: "/etc/sysctl.d/99-cis.conf", Key: "net.ipv4.ip_forward", Value: "0"}},
		OpenFiles: 524288, Processes: -1, Hugepages: "madvise", Entropy: 256}
	if !reflect.DeepEqual(f.Settings, want) {
		t.Errorf("%+v", f.Settings)
	}
	if f.Clock.Zone != "Europe/Berlin" || f.Clock.RTC.Unix() != 1795248000 || f.Security.SudoPath != "/sbin:/bin" {
		t.Errorf("%+v, %+v", f.Clock, f.Security)
	}
	if p := f.Proxies[0]; p.From != "/etc/environment" || p.HTTPS != "proxy.example.com:3128" || len(p.NoProxy) != 2 {
		t.Errorf("%+v", f.Proxies)
	}
	if !slices.Equal(f.Network.Listening, []int{22}) || !slices.Equal(f.Network.Search, []string{"example.com", "corp"}) || len(f.Network.Servers) != 1 {
		t.Errorf("%+v", f.Network)
	}
}

func TestReadTimeZone_ReturnsNoNameForDanglingLink(t *testing.T) {
	k := fakeSystem()
	k.Readlink = func(string) (string, error) { return "/usr/share/zoneinfo/Nowhere", nil }
	if zone := gatherFrom(t, nil, k, facts.Request{}).Clock.Zone; zone != "" {
		t.Errorf("zone %q", zone)
	}
	if zone := gatherFrom(t, nil, fakeSystem(), facts.Request{}).Clock.Zone; zone != "UTC" {
		t.Errorf("without the file: %q", zone)
	}
}

func TestGatherFacts_FindsPodMountsAndClosedDirectories(t *testing.T) {
	fake := newFakeHost(t, map[string]string{"/proc/self/mountinfo": "27 1 254:0 / / rw - xfs /dev/vda rw\n50 27 0:3 net:[1] /run/netns/cni-1234 rw - nsfs nsfs rw\n", "/data/inner/k0s/.keep": ""})
	if err := os.Chmod(filepath.Join(fake.Root, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	f := gatherFacts(t.Context(), newProber(fake.Host(), fakeSystem(), facts.Request{Paths: []string{"/data/inner/k0s"}}), time.Minute)
	if len(f.Traces) != 1 || f.Traces[0] != (facts.Trace{Software: facts.Kubelet, Kind: "mount", Path: "/run/netns/cni-1234", Detail: "nsfs"}) {
		t.Errorf("%+v", f.Traces)
	}
	if d, _ := f.Disk("/data/inner/k0s"); d.Closed != "/data" || d.FType != "1" {
		t.Errorf("%+v", d)
	}
}

func TestRequestSource_ReportsErrorsAndClockOffset(t *testing.T) {
	k := fakeSystem()
	k.QueryNameserver = func(_ context.Context, server netip.Addr) error {
		if server.String() == "192.0.2.54" {
			return errors.New("connection refused")
		}
		return nil
	}
	k.RequestURL = func(_ context.Context, url, _ string) (int, time.Time, error) {
		if url == "https://bad.example.com" {
			return 0, time.Time{}, errors.New("x509: certificate signed by unknown authority")
		}
		return 200, k.Now().Add(time.Hour), nil
	}
	f := gatherFrom(t, map[string]string{"/proc/net/route": "", "/etc/resolv.conf": "nameserver 192.0.2.53\nnameserver 192.0.2.54\n"}, k,
		facts.Request{Sources: []string{"https://good.example.com", "https://bad.example.com"}})
	if s := f.Network.Servers; len(s) != 2 || s[0].Error != "" || s[1].Error != "connection refused" {
		t.Errorf("%+v", s)
	}
	if s := f.Sources; len(s) != 2 || !strings.Contains(s[0].Error, "x509") || s[1].Offset != time.Hour || s[1].Error != "" {
		t.Errorf("%+v", s)
	}
}

// TestGather_RunsBenchmarksOnRequestOnly also verifies that a directory that
// does not exist yet is measured in its nearest existing parent.
func TestGather_RunsBenchmarksOnRequestOnly(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "not", "yet")
	f := Gather(t.Context(), host.Local("/"), facts.Request{FsyncPath: p, WritePath: p, MeasureCore: true})
	m := f.Measures
	if m.Fsync == nil || m.Fsync.Path != dir || m.Write == nil || m.Write.BytesPerSecond() <= 0 || m.Core == nil || m.Core.MBps <= 0 {
		t.Errorf("%+v %+v", m, f.Unknown)
	}
	if f := gatherFrom(t, nil, fakeSystem(), facts.Request{}); f.Measures != (facts.Measures{}) {
		t.Errorf("%+v", f.Measures)
	}
}

func TestRunWithLimit_ReturnsErrHang(t *testing.T) {
	got, err := runWithLimit(t.Context(), 10*time.Millisecond, func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 1, nil
	})
	if err != errHang || got != 0 {
		t.Errorf("%d, %v", got, err)
	}
}
