package probe

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/facts"
)

const (
	osRelease = "PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nID=ubuntu\nID_LIKE=debian\n"
	cpuInfo   = "processor\t: 0\nmodel name\t: Old One\nflags\t\t: fpu cx8 lm cmov fxsr mmx syscall sse2 pni\n\nprocessor\t: 1\nmodel name\t: Old One\nflags\t\t: fpu cx8 lm cmov fxsr mmx syscall sse2 pni\n"
	memInfo   = "MemTotal:       16090628 kB\nMemFree:         1090628 kB\nMemAvailable:   15090628 kB\n"
	swaps     = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/swap\\040file.img                       file\t\t2097148\t\t0\t\t-2\n"
	status    = "Name:\tplinth\nUid:\t1000\t0\t0\t0\nCapEff:\t000001fffeffffff\n"
	mountinfo = "22 27 0:21 / /proc rw,relatime - proc proc rw\n27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n" +
		"40 27 8:1 / /var/lib/my\\040disk rw,noexec - xfs /dev/sda1 rw,attr2\n41 27 8:2 / /var/lib ro - ext4 /dev/sda2 rw\n42 27 8:3 / /var/lib rw - btrfs /dev/sda3 rw\n"
	routes4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n*\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0\n"
	routes6 = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth0\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n" +
		"fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
	tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0000000000000000 100 0 0 10 0\n" +
		"   1: 0100007F:192B 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0000000000000000 20 4 30 10 -1\n"
	resolv   = "# edited manually\nsearch example.com\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver nonsense\n"
	units    = "Id=k0scontroller.service\nLoadState=not-found\n\nId=docker.service\nActiveState=active\nFragmentPath=/usr/lib/systemd/system/docker.service\n"
	iptables = "*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n"
	cgroupV1 = "12:pids:/system.slice/nginx.service\n1:name=systemd:/system.slice/nginx.service\n"
	cgroupV2 = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/worker\n"
	proc     = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nnet_cls\t0\t1\t0\n"
)

const (
	reject = "*nat\n:INPUT DROP [0:0]\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n-A INPUT -p icmp -j ACCEPT\n-A INPUT -j REJECT --reject-with icmp-host-prohibited\nCOMMIT\n"
	nft    = "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n\tchain out {\n\t\ttype filter hook output priority filter; policy drop;\n\t}\n}\n" +
		"table inet firewalld {\n\tchain x {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\ntable ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n}\n"
)

func parseProxyText(text string) facts.Proxy { p, _ := parseProxy([]byte(text)); return p }

func TestParse_ReadsSystemTexts(t *testing.T) {
	ok := func(v any, err error) any {
		if err != nil {
			t.Helper()
			t.Error(err)
		}
		return v
	}
	for name, c := range map[string]struct{ got, want any }{
		"os-release": {ok(parseOSRelease([]byte(osRelease))), facts.OS{ID: "ubuntu", Like: "debian", Version: "24.04", Name: "Ubuntu 24.04.1 LTS"}},
		"cpuinfo":    {ok(parseCPUInfo([]byte(cpuInfo))), facts.CPU{Count: 2, Model: "Old One", Level: 1}},
		"meminfo":    {ok(parseMemInfo([]byte(memInfo))), facts.Memory{Total: 16090628 << 10, Available: 15090628 << 10}},
		"swaps":      {parseSwaps([]byte(swaps)), []facts.Swap{{Path: "/swap file.img", Size: 2097148 << 10}}},
		"status":     {ok(parseProcStatus([]byte(status))), facts.Privilege{UID: 0, Missing: []string{"sys_resource"}}},
		"routes": {parseIPv4Routes([]byte(routes4)), []facts.Route{
			{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.1"), Interface: "eth0"},
			{Destination: netip.MustParsePrefix("192.0.2.0/24"), Interface: "eth0"}}},
		"routes, IPv6": {parseIPv6Routes([]byte(routes6)), []facts.Route{
			{Destination: netip.MustParsePrefix("fd00::/64"), Interface: "eth0"},
			{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fd00::1"), Interface: "eth0"}}},
		"sockets":             {parseSockets([]byte(tcp)), []Socket{{Port: 6443, Inode: "4242"}}},
		"resolv.conf":         {parseNameservers([]byte(resolv)), []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("fe80::1%eth0")}},
		"systemctl":           {len(parseSystemctlShow([]byte(units))), 2},
		"systemctl, 2":        {parseSystemctlShow([]byte(units))[1]["FragmentPath"], "/usr/lib/systemd/system/docker.service"},
		"iptables":            {countKubeRules([]byte(iptables)), 2},
		"service, v1":         {parseCgroupService([]byte(cgroupV1)), "nginx"},
		"service, v2":         {parseCgroupService([]byte(cgroupV2)), "web"},
		"chosen":              {selectedOption("always [madvise] never"), "madvise"},
		"not chosen":          {selectedOption("none"), "none"},
		"systemd.conf":        {parseProxyText("DefaultEnvironment=\"HTTP_PROXY=http://p:1\" 'NO_PROXY=a b,c'\n"), facts.Proxy{HTTP: "p:1", NoProxy: []string{"a", "b", "c"}}},
		"no proxy":            {parseProxyText("NO_PROXY=a\nHTTP_PROXY=\n"), facts.Proxy{NoProxy: []string{"a"}}},
		"iptables, rejecting": {parseIptablesFilters([]byte(reject)), []facts.FilterChain{{Table: "iptables", Chain: "FORWARD", Hook: "forward", Policy: "drop"}, {Table: "iptables", Chain: "INPUT", Hook: "input", Policy: "reject"}}},
		"nftables":            {parseNftFilters([]byte(nft)), []facts.FilterChain{{Table: "inet filter", Chain: "input", Hook: "input", Policy: "drop"}}},
		"no service":          {parseCgroupService([]byte("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n")), ""},
		"cgroups":             {parseCgroupControllers([]byte(proc)), map[string]bool{"cpuset": true}},
	} {
		t.Run(name, func(t *testing.T) {
			if !reflect.DeepEqual(c.got, c.want) {
				t.Errorf("%s: %+v, want %+v", name, c.got, c.want)
			}
		})
	}
}

func TestParse_RefusesTextWithoutRequiredEntry(t *testing.T) {
	for name, read := range map[string]func([]byte) error{
		"os-release": func(b []byte) error { _, err := parseOSRelease(b); return err },
		"cpuinfo":    func(b []byte) error { _, err := parseCPUInfo(b); return err },
		"meminfo":    func(b []byte) error { _, err := parseMemInfo(b); return err },
		"status":     func(b []byte) error { _, err := parseProcStatus(b); return err },
	} {
		t.Run(name, func(t *testing.T) {
			if read([]byte("nothing of that kind\n")) == nil {
				t.Errorf("%s: no error", name)
			}
		})
	}
}

func TestPsABILevel_FollowsPsABI(t *testing.T) {
	v1 := "lm cmov cx8 fpu fxsr mmx syscall sse2 "
	v2 := v1 + "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 "
	v3 := v2 + "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave "
	v4 := v3 + "avx512f avx512bw avx512cd avx512dq avx512vl"
	for want, flags := range []string{"lm", v1, v2, v3, v4} {
		t.Run(fmt.Sprintf("level %d", want), func(t *testing.T) {
			if got := psABILevel(strings.Fields(flags)); got != want {
				t.Errorf("level %d, want %d", got, want)
			}
		})
	}
	if psABILevel(strings.Fields(strings.Replace(v4, "ssse3", "", 1))) != 1 {
		t.Error("a level is reached without the one below it")
	}
}

func TestFindMount_ReturnsDeepestAndNewestMount(t *testing.T) {
	mounts := parseMounts([]byte(mountinfo))
	for p, want := range map[string]string{
		"/etc": "/dev/vda", "/var/lib/k0s": "/dev/sda3", "/var/lib/my disk/x": "/dev/sda1", "/var/library": "/dev/vda", "/": "/dev/vda",
	} {
		t.Run(p, func(t *testing.T) {
			if m, ok := findMount(mounts, p); !ok || m.Device != want {
				t.Errorf("%s lies on %q, want %q", p, m.Device, want)
			}
		})
	}
	if m, _ := findMount(mounts, "/var/lib/my disk"); !slices.Contains(m.Options, "noexec") || !slices.Contains(m.Options, "attr2") {
		t.Errorf("options of mount and file system: %v", m.Options)
	}
}

func TestDetectKernelFeatures_UsesStrongestEvidence(t *testing.T) {
	none := func(string) bool { return false }
	for name, c := range map[string]struct {
		e       KernelEvidence
		feature string
		want    facts.FeatureState
	}{
		"loaded":                                {KernelEvidence{Loaded: []byte("overlay 151552 0 - Live 0x0\n"), Exists: none}, "overlay", facts.Loaded},
		"builtin by list":                       {KernelEvidence{Builtin: []byte("kernel/fs/overlayfs/overlay.ko\n"), Exists: none}, "overlay", facts.Builtin},
		"builtin by configuration":              {KernelEvidence{Config: []byte("CONFIG_VETH=y\n"), ConfigFrom: "/proc/config.gz", Exists: none}, "veth", facts.Builtin},
		"builtin, active":                       {KernelEvidence{Filesystems: []byte("nodev\toverlay\n"), Exists: none}, "overlay", facts.Builtin},
		"builtin by a file":                     {KernelEvidence{Exists: func(p string) bool { return p == "/proc/sys/net/bridge/bridge-nf-call-iptables" }}, "br_netfilter", facts.Builtin},
		"on disk":                               {KernelEvidence{OnDisk: []byte("kernel/drivers/net/veth.ko.xz: kernel/x.ko.xz\n"), Config: []byte("CONFIG_VETH=m\n"), Exists: none}, "veth", facts.Module},
		"on disk, by its name in older kernels": {KernelEvidence{OnDisk: []byte("kernel/net/ipv4/netfilter/ipt_MASQUERADE.ko:\n"), Exists: none}, "xt_MASQUERADE", facts.Module},
		"a module that is not installed":        {KernelEvidence{Config: []byte("CONFIG_VETH=m\n"), Exists: none}, "veth", facts.Missing},
		"disabled":                              {KernelEvidence{Config: []byte("# CONFIG_VETH is not set\n"), Exists: none}, "veth", facts.Missing},
		"not in the list of modules":            {KernelEvidence{OnDisk: []byte{}, Exists: none}, "veth", facts.Missing},
		"no evidence":                           {KernelEvidence{Exists: none}, "veth", facts.FeatureUnknown},
		"a similar name":                        {KernelEvidence{Loaded: []byte("overlayx 1 0 - Live 0x0\n"), OnDisk: []byte{}, Exists: none}, "overlay", facts.Missing},
	} {
		t.Run(name, func(t *testing.T) {
			k := facts.Kernel{Features: detectKernelFeatures(c.e)}
			if got := k.Feature(c.feature); got.State != c.want || got.How == "" {
				t.Errorf("%s: %+v, want %s", name, got, c.want)
			}
		})
	}
}

// FuzzTexts passes any text to every parser: none may panic, and what it
// returns must be valid.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{osRelease, cpuInfo, memInfo, swaps, status, mountinfo, routes4, routes6, tcp, resolv, units, iptables, cgroupV1, cgroupV2, proc, reject, nft, "DefaultEnvironment=\"HTTP_PROXY=http://u:p@h:1\"\n", "Defaults secure_path = /bin\n", "a/b = 1\n", "CONFIG_VETH=y\n", "kernel/net/veth.ko.xz: a\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if os, err := parseOSRelease(text); err == nil && os.ID == "" {
			t.Error("an OS without an ID")
		}
		if cpu, err := parseCPUInfo(text); err == nil && (cpu.Count < 1 || cpu.Level < 0 || cpu.Level > 4) {
			t.Errorf("%+v", cpu)
		}
		if mem, err := parseMemInfo(text); err == nil && mem.Total == 0 {
			t.Error("no memory")
		}
		if p, err := parseProcStatus(text); err == nil && p.UID < 0 {
			t.Errorf("%+v", p)
		}
		for _, m := range parseMounts(text) {
			if _, ok := findMount([]Mount{m}, m.Point+"/x"); !ok && strings.HasPrefix(m.Point, "/") {
				t.Errorf("no mount found below %q", m.Point)
			}
		}
		for _, r := range append(parseIPv4Routes(text), parseIPv6Routes(text)...) {
			if !r.Destination.IsValid() || r.Destination != r.Destination.Masked() {
				t.Errorf("%+v", r)
			}
		}
		for _, s := range parseSockets(text) {
			if s.Port < 0 || s.Port > 65535 {
				t.Errorf("%+v", s)
			}
		}
		for _, a := range parseNameservers(text) {
			if !a.IsValid() {
				t.Error("a name server without an address")
			}
		}
		if p, ok := parseProxy(text); ok && strings.Contains(p.HTTP+p.HTTPS, "@") {
			t.Errorf("credentials: %+v", p)
		}
		for _, f := range append(parseIptablesFilters(text), parseNftFilters(text)...) {
			if f.Chain == "" || f.Policy == "" {
				t.Errorf("%+v", f)
			}
		}
		if l, err := parseLimits(text); err == nil && len(l) == 0 {
			t.Error("no limits, and no error")
		}
		parseSysctls(text)
		selectedOption(string(text))
		parseSecurePath(text)
		parseSearchDomains(text)
		parseSwaps(text)
		parseSystemctlShow(text)
		parseCgroupControllers(text)
		if n := countKubeRules(text); n > strings.Count(string(text), "KUBE-") {
			t.Errorf("%d rules", n)
		}
		if s := parseCgroupService(text); strings.Contains(s, "/") {
			t.Errorf("service %q", s)
		}
		detectKernelFeatures(KernelEvidence{Filesystems: text, Loaded: text, Builtin: text, OnDisk: text, Config: text, Exists: func(string) bool { return false }})
	})
}

func TestParsePackages_KeepsInstalledPackages(t *testing.T) {
	out := []byte("nfs-common\tinstalled\t1:2.6.2-4\ngone\tconfig-files\t1.0\npackage iscsi is not installed\n\tinstalled\t1\n")
	if got := parsePackages(out); len(got) != 1 || got[0].Name != "nfs-common" || got[0].Version != "1:2.6.2-4" {
		t.Errorf("%+v", got)
	}
}

func FuzzPackages(f *testing.F) {
	f.Add([]byte("nfs-common\tinstalled\t1:2.6.2-4\n"))
	f.Add([]byte("package x is not installed\n\t\t\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		for _, p := range parsePackages(out) {
			if p.Name == "" {
				t.Errorf("a package without a name in %q", out)
			}
		}
	})
}
