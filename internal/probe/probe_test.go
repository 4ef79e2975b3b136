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
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/probe/sys"
)

// still is a kernel that answers without looking at this machine.
func still() sys.Kernel {
	return sys.Kernel{
		Arch: "amd64", Now: func() time.Time { return time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC) },
		Bind: func(context.Context, facts.PortKey) error { return nil },
		Statfs: func(string) (sys.Space, error) {
			return sys.Space{Size: 100, Free: 50, Available: 40, Inodes: 10, InodesFree: 5}, nil
		},
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.1.1")}, nil
		},
		Links:     func() ([]facts.Interface, error) { return []facts.Interface{{Name: "eth0", Up: true}}, nil },
		Synced:    func() (bool, error) { return true, nil },
		Readlink:  func(string) (string, error) { return "", fs.ErrNotExist },
		EvalLinks: func(p string) (string, error) { return p, nil },
	}
}

// files is a host on which text files stand; no program may be run on it.
func files(t *testing.T, texts map[string]string) *hosttest.Fake {
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

func lookAt(t *testing.T, texts map[string]string, k sys.Kernel, req facts.Request) facts.Facts {
	t.Helper()
	return gather(t.Context(), look{m: files(t, texts).Host(), k: k, req: req}, time.Second)
}

func TestThisMachineIsTold(t *testing.T) {
	f := Gather(t.Context(), host.Local("/"), facts.Request{
		Ports: []facts.PortKey{{Number: 6443, Protocol: "tcp"}}, Paths: []string{"/var/lib/plinth", "/etc"},
		Commands: []string{"mount"}, Units: []string{"docker"}, Lookups: []string{"localhost"},
	})
	for _, fact := range []string{facts.FactOS, facts.FactKernel, facts.FactCPU, facts.FactMemory, facts.FactCgroup, facts.FactDisk, facts.FactHostname, facts.FactNetwork, facts.FactClock, facts.FactPrivilege} {
		if why := f.Why(fact); why != "" {
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
		t.Error("facts change on their way through JSON")
	}
}

func TestATakenPortNamesItsHolder(t *testing.T) {
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
		{Number: tcp.Addr().(*net.TCPAddr).Port, Protocol: "tcp"}, // on all addresses, one of which is taken
		{Number: udp.LocalAddr().(*net.UDPAddr).Port, Protocol: "udp"},
		{Number: tcp.Addr().(*net.TCPAddr).Port, Protocol: "tcp", Address: "127.0.0.2"},
	}
	f := Gather(t.Context(), host.Local("/"), facts.Request{Ports: keys})
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

func TestAPortIsFreeAgainAfterTheLook(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	key := facts.PortKey{Number: l.Addr().(*net.TCPAddr).Port, Protocol: "tcp"}
	l.Close()
	for range 2 {
		f := Gather(t.Context(), host.Local("/"), facts.Request{Ports: []facts.PortKey{key}})
		if p, _ := f.Port(key); !p.Free {
			t.Fatalf("%+v", p)
		}
	}
}

func TestAPortWhoseHolderEndsMeanwhileIsTriedAgain(t *testing.T) {
	k, tries := still(), 0
	k.Bind = func(context.Context, facts.PortKey) error {
		if tries++; tries == 1 {
			return &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", unix.EADDRINUSE)}
		}
		return nil
	}
	f := lookAt(t, nil, k, facts.Request{Ports: []facts.PortKey{{Number: 8132, Protocol: "tcp"}}})
	if len(f.Ports) != 1 || !f.Ports[0].Free || tries != 2 {
		t.Errorf("after %d tries: %+v", tries, f.Ports)
	}
}

func TestAPortThatMayNotBeBoundIsUnknownNotTaken(t *testing.T) {
	k := still()
	k.Bind = func(_ context.Context, key facts.PortKey) error {
		if key.Number < 1024 {
			return &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", unix.EACCES)}
		}
		return &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", unix.EADDRNOTAVAIL)}
	}
	f := lookAt(t, nil, k, facts.Request{Ports: []facts.PortKey{{Number: 179, Protocol: "tcp"}, {Number: 6443, Protocol: "tcp", Address: "192.0.2.1"}}})
	if got := f.Why("port:179/tcp"); got != "binding it is not permitted (EACCES)" {
		t.Errorf("179: %q", got)
	}
	if len(f.Ports) != 1 || f.Ports[0].Error != "EADDRNOTAVAIL" || f.Ports[0].Owner != nil {
		t.Errorf("%+v", f.Ports)
	}
}

func TestAHangingPartIsUnknownAndHoldsUpNothing(t *testing.T) {
	k := still()
	release := make(chan struct{})
	defer close(release)
	k.Statfs = func(p string) (sys.Space, error) { // a dead NFS server: not even ctx ends it
		if p == "/mnt/nfs" {
			<-release
		}
		return sys.Space{Size: 1}, nil
	}
	start := time.Now()
	l := look{m: files(t, map[string]string{"/proc/self/mountinfo": "27 1 254:0 / / rw - ext4 /dev/vda rw\n"}).Host(), k: k, req: facts.Request{Paths: []string{"/mnt/nfs", "/var"}}}
	f := gather(t.Context(), l, 50*time.Millisecond)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	if got := f.Why("disk:/mnt/nfs"); got != "no answer within 50ms" {
		t.Errorf("why: %q", got)
	}
	if d, ok := f.Disk("/var"); !ok || d.Size != 1 {
		t.Errorf("the other disk: %+v", d)
	}
}

func TestNothingReadableIsAllUnknown(t *testing.T) {
	f := lookAt(t, nil, still(), facts.Request{Paths: []string{"/var"}})
	for _, fact := range []string{facts.FactOS, facts.FactKernel, facts.FactCPU, facts.FactMemory, facts.FactCgroup, "disk:/var", facts.FactHostname, facts.FactNetwork, facts.FactPrivilege, facts.FactIptables} {
		if f.Why(fact) == "" {
			t.Errorf("%s counts as told", fact)
		}
	}
	for _, fact := range []string{facts.FactMachineID, facts.FactSecurity, facts.FactTraces, facts.FactCommands, facts.FactSystemd} {
		if why := f.Why(fact); why != "" {
			t.Errorf("%s: %s; that nothing is there is a fact", fact, why)
		}
	}
}

func TestControlGroupsAreThoseThatAreMounted(t *testing.T) {
	const v1 = "33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n34 32 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	const list = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\ncpuacct\t1\t1\t1\nmemory\t2\t1\t0\npids\t3\t1\t1\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  facts.Cgroup
	}{
		"version 1, memory switched off, pids not mounted": {map[string]string{"/proc/self/mountinfo": v1, "/proc/cgroups": list}, facts.Cgroup{Version: 1, Controllers: []string{"cpu", "cpuacct"}}},
		"hybrid": {map[string]string{"/proc/self/mountinfo": v1 + "40 32 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/proc/cgroups": list}, facts.Cgroup{Version: 1, Hybrid: true, Controllers: []string{"cpu", "cpuacct"}}},
		"version 2": {map[string]string{"/proc/self/mountinfo": "40 32 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n"},
			facts.Cgroup{Version: 2, Controllers: []string{"cpu", "cpuset", "io", "memory", "pids"}}},
		"none": {map[string]string{"/proc/self/mountinfo": "27 1 254:0 / / rw - ext4 /dev/vda rw\n"}, facts.Cgroup{}},
	} {
		f := lookAt(t, c.files, still(), facts.Request{})
		if f.Cgroup.Version != c.want.Version || f.Cgroup.Hybrid != c.want.Hybrid || !slices.Equal(f.Cgroup.Controllers, c.want.Controllers) {
			t.Errorf("%s: %+v, want %+v", name, f.Cgroup, c.want)
		}
	}
}

func TestTracesAreFoundAndEmptyFoldersAreNone(t *testing.T) {
	k := still()
	k.Links = func() ([]facts.Interface, error) {
		return []facts.Interface{{Name: "eth0"}, {Name: "kube-bridge", Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.0.1/24")}}}, nil
	}
	fake := files(t, map[string]string{
		"/usr/local/bin/k0s": "x", "/var/lib/kubelet/pki/kubelet.crt": "x", "/var/lib/etcd/lost+found/x": "", "/etc/cni/net.d/10-flannel.conflist": "{}", "/etc/cni/net.d/README": "no",
		"/etc/k0s/containerd.d/10-mine.toml": "", "/srv/k0s/lost+found/x": "", "/data/k0s/pki/ca.crt": "x",
	})
	if err := os.MkdirAll(filepath.Join(fake.Root, "var/lib/k0s"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := gather(t.Context(), look{m: fake.Host(), k: k, req: facts.Request{DataDirs: []string{"/var/lib/k0s", "/srv/k0s", "/data/k0s"}}}, time.Second)
	var got []string
	for _, tr := range f.Traces {
		got = append(got, fmt.Sprintf("%s %s %s %s", tr.Of, tr.Kind, tr.Path, tr.Detail))
	}
	want := []string{"cni cni-config /etc/cni/net.d/10-flannel.conflist ", "cni link kube-bridge 10.244.0.1/24",
		"k0s file /usr/local/bin/k0s ", "k0s data /data/k0s ", "kubelet data /var/lib/kubelet/pki "}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSystemdAndRulesAreAskedInThreeCommands(t *testing.T) {
	fake := files(t, map[string]string{"/run/systemd/system/.keep": "", "/usr/sbin/iptables-nft-save": "", "/usr/sbin/iptables-legacy-save": "", "/usr/sbin/iptables-save": "", "/usr/sbin/nft": ""})
	fake.Expect("systemctl show --no-pager --property=Version,SystemState").Return("Version=252\nSystemState=degraded\n", nil)
	fake.Expect("systemctl show --no-pager --property=Id,LoadState,ActiveState,FragmentPath,MainPID docker k3s").
		Return("MainPID=77\nId=docker.service\nLoadState=loaded\nActiveState=active\nFragmentPath=/lib/docker.service\n\nId=k3s.service\nLoadState=not-found\nActiveState=inactive\n", nil)
	fake.Expect("iptables-nft-save").Return(":KUBE-SERVICES - [0:0]\n-A INPUT -j KUBE-FIREWALL\n", nil)
	f := gather(t.Context(), look{m: fake.Host(), k: still(), req: facts.Request{Units: []string{"docker", "k3s"}}}, time.Second)
	if f.Systemd != (facts.Systemd{Booted: true, Version: "252", State: "degraded"}) {
		t.Errorf("%+v", f.Systemd)
	}
	if len(f.Units) != 1 || f.Units[0] != (facts.Unit{Name: "docker", Active: "active", Path: "/lib/docker.service", MainPID: 77}) {
		t.Errorf("%+v", f.Units)
	}
	if len(f.Traces) != 1 || f.Traces[0].Detail != "lines with KUBE-: 2" {
		t.Errorf("%+v", f.Traces)
	}
}

func TestACommandThatFailsIsUnknown(t *testing.T) {
	fake := files(t, map[string]string{"/run/systemd/system/.keep": "", "/usr/sbin/nft": ""})
	fake.Expect("systemctl").Return("", errors.New("`systemctl show`: no end after 2s")).Often()
	fake.Expect("nft list chains").Return("", errors.New("`nft list chains` ended with code 1: Operation not permitted"))
	f := gather(t.Context(), look{m: fake.Host(), k: still(), req: facts.Request{Units: []string{"docker"}}}, time.Second)
	if !f.Systemd.Booted || !strings.Contains(f.Why(facts.FactSystemd), "no end after 2s") || !strings.Contains(f.Why(facts.FactIptables), "not permitted") {
		t.Errorf("%+v", f.Unknown)
	}
}

func TestADiskIsThatOfTheNearestParent(t *testing.T) {
	fake := files(t, map[string]string{"/proc/self/mountinfo": "27 1 254:0 / / rw - ext4 /dev/vda rw\n41 27 8:2 / /data rw,noexec - xfs /dev/sda2 rw\n"})
	if err := os.MkdirAll(filepath.Join(fake.Root, "var/lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/data", filepath.Join(fake.Root, "var/lib/k0s")); err != nil {
		t.Fatal(err)
	}
	k := still()
	k.EvalLinks = func(p string) (string, error) {
		switch p {
		case "/var/lib/k0s":
			return "/data", nil
		case "/":
			return "/", nil
		}
		return "", &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrNotExist}
	}
	f := gather(t.Context(), look{m: fake.Host(), k: k, req: facts.Request{Paths: []string{"/var/lib/k0s/containerd", "/opt/new/place"}}}, time.Second)
	if d, _ := f.Disk("/var/lib/k0s/containerd"); d.Exists != "/data" || d.Device != "/dev/sda2" || d.Symlink != "/var/lib/k0s" || d.Available != 40 {
		t.Errorf("%+v", d)
	}
	if d, _ := f.Disk("/opt/new/place"); d.Exists != "/" || d.Device != "/dev/vda" || d.Symlink != "" {
		t.Errorf("%+v", d)
	}
}

func TestLookUpsSayHowTheyEnd(t *testing.T) {
	k := still()
	k.Resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
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
	l := look{m: files(t, map[string]string{"/proc/sys/kernel/hostname": "node1\n"}).Host(), k: k, req: facts.Request{Lookups: []string{"gone", "refused", "silent"}}}
	f := gather(t.Context(), l, 50*time.Millisecond)
	for name, want := range map[string]string{"node1": "", "gone": "no such name", "refused": "name server 192.0.2.53:53: server misbehaving", "silent": "no answer within 1.5s"} {
		got, ok := f.Lookup(name)
		if !ok || got.Error != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got, _ := f.Lookup("node1"); len(got.Addresses) != 1 || f.Hostname != "node1" {
		t.Errorf("%s: %+v", f.Hostname, got)
	}
}

func TestSmallFactsComeFromTheirFiles(t *testing.T) {
	f := lookAt(t, map[string]string{
		"/usr/lib/os-release": "ID=flatcar\n", "/etc/machine-id": "abc\n", "/sys/fs/selinux/enforce": "1", "/etc/ufw/ufw.conf": "# ufw\nENABLED=yes\n",
		"/usr/bin/mount": "", "/proc/meminfo": "MemTotal: 1024 kB\n", "/proc/swaps": "Filename Type Size Used Priority\n/dev/sda2 partition 10 0 -2\n",
	}, still(), facts.Request{Commands: []string{"mount", "umount"}})
	if f.OS.ID != "flatcar" || f.OS.Arch != "amd64" || f.MachineID != "abc" || f.Security.SELinux != "enforcing" || !f.Security.UFW || f.Memory.Swap != 10<<10 {
		t.Errorf("%+v", f)
	}
	if len(f.Commands) != 1 || f.Commands["mount"] != "/usr/bin/mount" {
		t.Errorf("%+v", f.Commands)
	}
}
