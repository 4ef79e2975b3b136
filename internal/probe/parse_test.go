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
	nft    = `{"nftables": [{"metainfo": {"json_schema_version": 1}}, {"set": {"family": "inet", "name": "s", "table": "g", "elem": [{"prefix": {"addr": "10.1.0.0", "len": 16}}, {"range": ["192.0.2.1", "192.0.2.9"]}]}},
		{"map": {"family": "inet", "name": "m", "table": "g", "map": "verdict", "elem": [[22, {"accept": null}], [80, {"goto": {"target": "other"}}]]}},
		{"chain": {"family": "inet", "table": "g", "name": "in", "type": "filter", "hook": "input", "prio": -5, "policy": "drop"}}, {"chain": {"family": "inet", "table": "g", "name": "other"}},
		{"chain": {"family": "inet", "table": "g", "name": "n", "type": "nat", "hook": "prerouting", "prio": -100, "policy": "accept"}},
		{"rule": {"family": "inet", "table": "g", "chain": "in", "expr": [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"counter": {"packets": 1, "bytes": 2}}, {"accept": null}]}},
		{"rule": {"family": "inet", "table": "g", "chain": "in", "expr": [{"vmap": {"key": {"payload": {"protocol": "tcp", "field": "dport"}}, "data": "@m"}}]}},
		{"rule": {"family": "inet", "table": "g", "chain": "in", "comment": "hi", "expr": [{"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@s"}}, {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "sport"}}, "right": {"set": [53, {"range": [100, 200]}]}}}, {"drop": null}]}},
		{"rule": {"family": "inet", "table": "g", "chain": "other", "expr": [{"limit": {"rate": 10, "burst": 5, "per": "second"}}, {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]}},
		{"rule": {"family": "inet", "table": "g", "chain": "other", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "saddr"}}, "right": "::1"}}, {"drop": null}]}},
		{"rule": {"family": "inet", "table": "g", "chain": "other", "expr": [{"match": {"op": "!=", "left": {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["fin", "syn"]]}, "right": "syn"}}, {"return": null}]}}]}`
)

func parseProxyText(texts ...string) facts.Proxy {
	var files []configFile
	for i, text := range texts {
		files = append(files, configFile{fmt.Sprint(i), []byte(text)})
	}
	p, _ := parseProxy(files)
	return p
}

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
		"cpuinfo":    {ok(parseCPUInfo([]byte(cpuInfo))), facts.CPU{Count: 2, Model: "Old One", Level: 1, Flags: strings.Fields("fpu cx8 lm cmov fxsr mmx syscall sse2 pni")}},
		"meminfo":    {ok(parseMemInfo([]byte(memInfo))), facts.Memory{Total: 16090628 << 10, Available: 15090628 << 10}},
		"swaps":      {parseSwaps([]byte(swaps)), []facts.Swap{{Path: "/swap file.img", Size: 2097148 << 10}}},
		"status":     {ok(parseProcStatus([]byte(status))), facts.Privilege{UID: 0, Missing: []string{"sys_resource"}}},
		"routes": {parseIPv4Routes([]byte(routes4)), []facts.Route{
			{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.1"), Interface: "eth0"},
			{Destination: netip.MustParsePrefix("192.0.2.0/24"), Interface: "eth0"},
			{Destination: netip.MustParsePrefix("10.0.0.0/8"), Unreachable: true}}},
		"routes that refuse packets": {parseIPv4Routes([]byte("Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" +
			"*\t00000000\t00000000\t0001\t0\t0\t7\t00000000\t0\t0\t0\n*\t0000030A\t00000000\t0201\t0\t0\t0\t0000FFFF\t0\t0\t0\n")), []facts.Route{ // ip route add blackhole default; … prohibit 10.3.0.0/16
			{Destination: netip.MustParsePrefix("0.0.0.0/0"), Unreachable: true}, {Destination: netip.MustParsePrefix("10.3.0.0/16"), Unreachable: true}}},
		"routes, IPv6": {parseIPv6Routes([]byte(routes6)), []facts.Route{
			{Destination: netip.MustParsePrefix("fd00::/64"), Interface: "eth0"},
			{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fd00::1"), Interface: "eth0"}}},
		"sockets":      {parseSockets([]byte(tcp)), []Socket{{Port: 6443, Inode: "4242"}}},
		"resolv.conf":  {parseNameservers([]byte(resolv)), []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("fe80::1%eth0")}},
		"systemctl":    {len(parseSystemctlShow([]byte(units))), 2},
		"systemctl, 2": {parseSystemctlShow([]byte(units))[1]["FragmentPath"], "/usr/lib/systemd/system/docker.service"},
		"iptables":     {countKubeRules([]byte(iptables)), 2},
		"service, v1":  {parseCgroupService([]byte(cgroupV1)), "nginx"},
		"service, v2":  {parseCgroupService([]byte(cgroupV2)), "web"},
		"chosen":       {selectedOption("always [madvise] never"), "madvise"},
		"not chosen":   {selectedOption("none"), "none"},
		"systemd.conf": {parseProxyText("DefaultEnvironment=\"HTTP_PROXY=http://p:1\" 'NO_PROXY=a b,c'\n"), facts.Proxy{From: "0", HTTP: "p:1", NoProxy: []string{"a", "b", "c"}}},
		"systemd.conf and its drop-ins": {parseProxyText("[Manager]\n#DefaultEnvironment=HTTP_PROXY=http://old:1\nDefaultEnvironment=HTTPS_PROXY=http://a:1\n", "[Manager]\nDefaultEnvironment=\"HTTPS_PROXY=http://b:2\"\n", "DefaultEnvironment=NO_PROXY=10.0.0.0/8\n"),
			facts.Proxy{From: "1", HTTPS: "b:2", NoProxy: []string{"10.0.0.0/8"}}},
		"systemd.conf, reset by a drop-in":  {parseProxyText("DefaultEnvironment=HTTP_PROXY=http://a:1\n", "DefaultEnvironment=\n").HTTP, ""},
		"proxy for all protocols":           {parseProxyText("ALL_PROXY=socks5://me:secret@p:1080\n"), facts.Proxy{From: "0", HTTP: "p:1080", HTTPS: "p:1080", NoProxy: []string{}}},
		"proxy for all, and one of its own": {parseProxyText("export all_proxy=http://p:1\nhttps_proxy=http://q:2\n"), facts.Proxy{From: "0", HTTP: "p:1", HTTPS: "q:2", NoProxy: []string{}}},
		"proxy in a comment":                {parseProxyText("# https_proxy=http://p:1\n"), facts.Proxy{NoProxy: []string{}}},
		"no proxy":                          {parseProxyText("NO_PROXY=a\nHTTP_PROXY=\n"), facts.Proxy{NoProxy: []string{"a"}}},
		"no service":                        {parseCgroupService([]byte("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n")), ""},
		"cgroups":                           {parseCgroupControllers([]byte(proc)), map[string]bool{"cpuset": true}},
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
		"forbidden by install":                  {forbiddenEvidence("install veth /bin/false\n"), "veth", facts.Forbidden},
		"forbidden by install, on two lines":    {forbiddenEvidence("# CIS\n\tinstall veth \\\n  /bin/true\n"), "veth", facts.Forbidden},
		"forbidden by install of a pattern":     {forbiddenEvidence("install ve* /bin/true\n"), "veth", facts.Forbidden},
		"install that loads the module":         {forbiddenEvidence("install veth /sbin/modprobe --ignore-install veth && /sbin/sysctl -p\ninstall veth /bin/false\n"), "veth", facts.Module},
		"install of another module":             {forbiddenEvidence("install cramfs /bin/false\n#install veth /bin/false\nveth\n"), "veth", facts.Module},
		"an alias that leads nowhere":           {forbiddenEvidence("alias veth off\n"), "veth", facts.Forbidden},
		"blacklisted, loaded by an alias":       {forbiddenEvidence("blacklist veth\n"), "veth", facts.Forbidden},
		"blacklisted, loaded by its name":       {forbiddenEvidence("blacklist br-netfilter\n"), "br_netfilter", facts.Module},
		"a needed module is forbidden":          {forbiddenEvidence("install stp /bin/true\n"), "br_netfilter", facts.Forbidden},
		"a needed module is blacklisted":        {forbiddenEvidence("blacklist stp\n"), "br_netfilter", facts.Module},
		"a needed module is loaded":             {loadedEvidence(forbiddenEvidence("install stp /bin/true\n"), "stp"), "br_netfilter", facts.Module},
		"forbidden, but loaded":                 {loadedEvidence(forbiddenEvidence("install veth /bin/false\n"), "veth"), "veth", facts.Loaded},
		"no module can be loaded":               {KernelEvidence{OnDisk: []byte("veth.ko:\n"), Locked: true, Exists: none}, "veth", facts.Forbidden},
		"no module can be loaded, built in":     {KernelEvidence{Builtin: []byte("veth.ko\n"), Locked: true, Exists: none}, "veth", facts.Builtin},
		"refused by the kernel":                 {KernelEvidence{OnDisk: []byte("overlay.ko:\n"), CommandLine: []byte("ro module_blacklist=x,overlay quiet\n"), Exists: none}, "overlay", facts.Forbidden},
		"blacklisted by the kernel's options":   {KernelEvidence{OnDisk: []byte("veth.ko:\n"), CommandLine: []byte("modprobe.blacklist=veth\n"), Exists: none}, "veth", facts.Forbidden},
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

// forbiddenEvidence returns the evidence of a host whose modules are on disk and whose
// modprobe.d has one file with text.
func forbiddenEvidence(text string) KernelEvidence {
	const onDisk = "kernel/veth.ko.xz:\nkernel/bridge/br_netfilter.ko: kernel/bridge/bridge.ko kernel/802/stp.ko\nkernel/bridge/bridge.ko: kernel/802/stp.ko\nkernel/802/stp.ko:\n"
	return KernelEvidence{OnDisk: []byte(onDisk), Modprobe: []configFile{{"/etc/modprobe.d/cis.conf", []byte(text)}}, Exists: func(string) bool { return false }}
}

// loadedEvidence returns e of a host that has loaded a module.
func loadedEvidence(e KernelEvidence, module string) KernelEvidence {
	e.Loaded = []byte(module + " 16384 0 - Live 0x0\n")
	return e
}

func TestDetectKernelFeatures_NamesWhatForbidsModule(t *testing.T) {
	for name, c := range map[string]struct {
		e    KernelEvidence
		want facts.Feature
	}{
		"its own line":                {forbiddenEvidence("install br_netfilter /bin/false\n"), facts.Feature{State: facts.Forbidden, How: "install br_netfilter /bin/false", ForbiddenBy: "/etc/modprobe.d/cis.conf"}},
		"the line of a needed module": {forbiddenEvidence("install stp /bin/false\n"), facts.Feature{State: facts.Forbidden, How: "install stp /bin/false, and it needs stp", ForbiddenBy: "/etc/modprobe.d/cis.conf"}},
		"a setting": {KernelEvidence{OnDisk: []byte("br_netfilter.ko:\n"), Locked: true, Exists: func(string) bool { return false }},
			facts.Feature{State: facts.Forbidden, How: "kernel.modules_disabled is 1", ForbiddenBy: facts.ModulesDisabled}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Name = "br_netfilter"
			if got := (facts.Kernel{Features: detectKernelFeatures(c.e)}).Feature("br_netfilter"); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestSelectSysctls_FollowsSystemd(t *testing.T) {
	line := func(path, key, value, pattern string) facts.SysctlFile {
		return facts.SysctlFile{Path: path, Key: key, Value: value, Pattern: pattern}
	}
	const all, forward = "net.ipv4.conf.all.rp_filter", "net.ipv4.ip_forward"
	for name, c := range map[string]struct {
		texts []string
		want  []facts.SysctlFile
	}{
		"a key":                           {[]string{"net/ipv4/ip_forward = 0\n"}, []facts.SysctlFile{line("0", forward, "0", "")}},
		"a key that may fail":             {[]string{"- net.ipv4.ip_forward=0\n"}, []facts.SysctlFile{line("0", forward, "0", "")}},
		"a comment":                       {[]string{"#net.ipv4.ip_forward=0\n ; net.ipv4.ip_forward=0\n"}, nil},
		"a pattern":                       {[]string{"net.ipv4.conf.*.rp_filter = 1\n"}, []facts.SysctlFile{line("0", all, "1", "net.ipv4.conf.*.rp_filter")}},
		"a star is one part of a key":     {[]string{"net.*.rp_filter = 1\n"}, nil},
		"an excluded key":                 {[]string{"net.ipv4.conf.*.rp_filter = 1\n-net.ipv4.conf.all.rp_filter\n"}, nil},
		"a key beside a pattern":          {[]string{"net.ipv4.conf.all.rp_filter = 2\n", "net.ipv4.conf.*.rp_filter = 1\n"}, []facts.SysctlFile{line("0", all, "2", "")}},
		"a pattern that cannot be parsed": {[]string{"net.ipv4.conf.[.rp_filter = 1\n"}, nil},
		"the last of several":             {[]string{"net.ipv4.ip_forward = 1\n", "net.ipv4.ip_forward = 0\n"}, []facts.SysctlFile{line("0", forward, "1", ""), line("1", forward, "0", "")}},
	} {
		t.Run(name, func(t *testing.T) {
			var files []configFile
			for i, text := range c.texts {
				files = append(files, configFile{fmt.Sprint(i), []byte(text)})
			}
			if got := selectSysctls(files, []string{all, forward}); !slices.Equal(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestParseSecurePath_TakesLastForAllUsers(t *testing.T) {
	for text, want := range map[string]string{
		"Defaults\tsecure_path=\"/sbin:/bin\"\n":                                     "/sbin:/bin",
		"Defaults secure_path = /sbin:/bin\n":                                        "/sbin:/bin",
		"Defaults env_reset, secure_path=/sbin:/bin, mail_badpass\n":                 "/sbin:/bin",
		"Defaults secure_path=/sbin\nDefaults secure_path += /usr/local/bin\n":       "/sbin:/usr/local/bin",
		"Defaults secure_path=/sbin\nDefaults secure_path=\"/usr/local/bin\"\n":      "/usr/local/bin",
		"Defaults secure_path=/sbin\nDefaults !secure_path\n":                        "",
		"Defaults secure_path=/usr/local/bin\nDefaults:operator secure_path=/sbin\n": "/usr/local/bin",
		"#Defaults secure_path=/sbin\n":                                              "",
	} {
		t.Run(text, func(t *testing.T) {
			if got := parseSecurePath([]byte(text)); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestParseFapolicydRules_ReadsAllowedDirectories(t *testing.T) {
	const ours = "allow perm=any all : dir=/var/lib/k0s/\nallow perm=any all : path=/usr/local/bin/k0s\n"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"before the rules of the package": {"%languages=text/x-python\n" + ours + "deny_audit perm=any pattern=ld_so : all\n", []string{"/var/lib/k0s/", "/usr/local/bin/k0s"}},
		"after a rule that denies":        {"deny_audit perm=any all : ftype=application/x-bad-elf\n" + ours, nil},
		"for some users or programs only": {"allow perm=execute all : dir=/var/lib/k0s/\nallow perm=any uid=0 : dir=/opt/cni/\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parseFapolicydRules([]byte(c.text)); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestCNIConfigOwner_RecognizesContainerTools(t *testing.T) {
	for name, want := range map[string]facts.Software{
		`87-podman-bridge.conflist {}`: facts.Podman, `mine.conflist {"bridge":"cni-podman1"}`: facts.Podman, `nerdctl-bridge.conflist {}`: facts.Nerdctl,
		`db.conflist {"nerdctlID": "17"}`: facts.Nerdctl, `100-crio-bridge.conflist {}`: facts.CRIO, `10-flannel.conflist {"name":"cbr0"}`: facts.CNI,
	} {
		t.Run(name, func(t *testing.T) {
			file, text, _ := strings.Cut(name, " ")
			if got := cniConfigOwner(file, text); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

// FuzzTexts passes any text to every parser: none may panic, and what it
// returns must be valid.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{osRelease, cpuInfo, memInfo, swaps, status, mountinfo, routes4, routes6, tcp, resolv, units, iptables, cgroupV1, cgroupV2, proc, reject, nft, "DefaultEnvironment=\"HTTP_PROXY=http://u:p@h:1\"\n", "Defaults secure_path = /bin\n", "a/b = 1\n", "CONFIG_VETH=y\n", "install veth /bin/false\n", "allow perm=any all : dir=/a/\n", "0: 00000002 00000000 00010000 0001 01 9 /run/x\n", "kernel/net/veth.ko.xz: a\n"} {
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
		file := configFile{"/etc/x.conf", text}
		if p, ok := parseProxy([]configFile{file, file}); ok && strings.Contains(p.HTTP+p.HTTPS, "@") {
			t.Errorf("credentials: %+v", p)
		}
		parseUFWEnabled(text)
		parseForeignTables(text, "ip")
		rules, _ := parseNft(text)
		for _, c := range append(parseIptables(text, "iptables"), rules.chains...) {
			if c.Table == "" || c.Policy != "" && c.Hook == "" && strings.HasPrefix(c.Table, "iptables") {
				t.Errorf("%+v", c)
			}
		}
		if l, err := parseLimits(text); err == nil && len(l) == 0 {
			t.Error("no limits, and no error")
		}
		for _, set := range selectSysctls([]configFile{file}, []string{"net.ipv4.ip_forward"}) {
			if set.Key != "net.ipv4.ip_forward" || set.Value == "" {
				t.Errorf("%+v", set)
			}
		}
		parseListeningSockets(text)
		parseFapolicydRules(text)
		isPermissive(text)
		isMappedUser(text)
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
		detectKernelFeatures(KernelEvidence{Filesystems: text, Loaded: text, Builtin: text, OnDisk: text, Config: text, Modprobe: []configFile{file}, CommandLine: text, Exists: func(string) bool { return false }})
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
