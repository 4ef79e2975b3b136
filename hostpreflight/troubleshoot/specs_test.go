package troubleshoot

import (
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// specHost returns the facts of the host on which the specs of testdata/specs.yaml run.
func specHost() facts.Facts {
	return facts.Facts{
		OS:     facts.OS{ID: "rhel", Like: "fedora", Version: "9.4", Name: "a host", Arch: "amd64"},
		Kernel: facts.Kernel{Release: "5.14.0-427.13.1.el9_4.x86_64"},
		CPU:    facts.CPU{Count: 4, Cores: 2, Level: 3, Flags: strings.Fields("fpu cx8 cmov mmx fxsr sse sse2 avx avx2")},
		Memory: facts.Memory{Total: 8 << 30}, Disks: []facts.Disk{{Path: "/var/lib/k0s", Size: 100 << 30, Free: 60 << 30}},
		Cgroup:  facts.Cgroup{Version: 2, Controllers: []string{"cpu", "memory"}},
		Systemd: facts.Systemd{Booted: true},
		Network: facts.Network{Routes: []facts.Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Interface: "eth0"}, {Destination: netip.MustParsePrefix("10.0.0.0/16"), Interface: "eth0"}}},
		Devices: []facts.BlockDevice{
			{Name: "sda", KernelName: "sda", Type: "disk", Size: 50 << 30},
			{Name: "sda1", KernelName: "sda1", Parent: "sda", Type: "part", Size: 50 << 30, FSType: "xfs", Mount: "/"},
			{Name: "sdb", KernelName: "sdb", Type: "disk", Size: 100 << 30},
			{Name: "sdc", KernelName: "sdc", Type: "disk", Size: 20 << 30},
			{Name: "sdc1", KernelName: "sdc1", Parent: "sdc", Type: "part", Size: 20 << 30},
			{Name: "sdd", KernelName: "sdd", Type: "disk", Size: 8 << 30, Removable: true},
			{Name: "sr0", KernelName: "sr0", Type: "rom", Size: 1 << 30, ReadOnly: true, Removable: true},
			{Name: "data-lv", KernelName: "dm-0", Type: "lvm", Size: 10 << 30},
		},
		Services: []facts.Service{{Unit: "firewalld.service", Load: "loaded", Active: "active", Sub: "running"}, {Unit: "multipathd.service", Load: "loaded", Active: "failed", Sub: "failed"}},
	}
}

// specCase is one spec of testdata/specs.yaml.
type specCase struct {
	preflightSpec
	Name  string
	Facts json.RawMessage
	Runs  map[string]string // output by collectorName
	Error string
	Want  map[string]hp.State // by the id of the check
}

func TestParse_JudgesPublicShapes(t *testing.T) {
	text, err := os.ReadFile("testdata/specs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all []specCase
	if err := yaml.UnmarshalStrict(text, &all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			p, err := Parse("spec.hostPreflights", c.Collectors, c.Analyzers)
			if c.Error != "" || err != nil {
				if err == nil || c.Error == "" || !strings.Contains(err.Error(), c.Error) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got  %v\nwant %s", err, c.Error)
				}
				return
			}
			f := specHost()
			if c.Facts != nil {
				if err := json.Unmarshal(c.Facts, &f); err != nil {
					t.Fatal(err)
				}
			}
			for name, output := range c.Runs {
				f.Runs = append(f.Runs, facts.CommandResult{Name: name, Output: output})
			}
			got := map[string]hp.State{}
			report := runChecks(t, p, f, hp.Requirements{})
			for _, r := range report.Results {
				got[r.ID] = r.State
			}
			if !maps.Equal(got, c.Want) {
				t.Errorf("got %v, want %v\n%s", got, c.Want, report.Text())
			}
		})
	}
	if len(all) < 60 {
		t.Errorf("only %d specs", len(all))
	}
}

// TestAddRequests_AsksForWhatAnalyzersRead verifies that the programs of vendors run only
// for an analyzer, and that a host with a node does not test its load balancers.
func TestAddRequests_AsksForWhatAnalyzersRead(t *testing.T) {
	p, err := parseYAML(t, `
collectors:
  - run: {collectorName: used, command: uname, args: [-r], inheritEnvs: [HTTPS_PROXY], env: [A=b=c], timeout: 5s}
  - run: {collectorName: unused, command: reboot}
  - dns: {hostnames: [a.example.com]}
  - tcpLoadBalancer: {port: 6443, address: "lb:6443"}
analyzers:
  - textAnalyze: {fileName: host-collectors/run-host/used.txt, regex: x, outcomes: [{fail: {message: m}}]}
  - hostServices: {outcomes: [{fail: {when: "ufw = active"}}, {pass: {}}]}
  - blockDevices: {outcomes: [{pass: {when: "sdb > 0"}}]}
  - tcpLoadBalancer: {outcomes: [{pass: {when: connected}}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	var r, again facts.Request
	p.AddRequests(&r, hp.Requirements{})
	if len(r.Runs) != 1 || r.Runs[0].Name != "used" || !slices.Equal(r.Runs[0].Argv, []string{"uname", "-r"}) || !slices.Equal(r.Runs[0].Inherit, []string{"HTTPS_PROXY"}) {
		t.Errorf("%+v", r.Runs)
	}
	if len(r.DNS) != 0 || !slices.Equal(r.Services, []string{"ufw"}) || !r.Devices || len(r.Balancers) != 1 {
		t.Errorf("%+v", r)
	}
	var without facts.Request
	if p.WithoutPrograms().AddRequests(&without, hp.Requirements{}); len(without.Runs) != 0 || !without.Devices {
		t.Errorf("%+v", without)
	}
	installed := hp.Requirements{Owned: hp.Owned{Installed: true}}
	if p.AddRequests(&again, installed); len(again.Balancers) != 0 {
		t.Errorf("%+v", again.Balancers)
	}
	for _, res := range runChecks(t, p, facts.Facts{}, installed).Results {
		if res.ID == "vendor-tcp-load-balancer" && res.State != hp.Skipped {
			t.Errorf("%+v", res)
		}
	}
}

func TestFindFreeSubnet_SkipsRoutes(t *testing.T) {
	for name, c := range map[string]struct{ within, routes, want string }{
		"no routes":                        {"10.0.0.0/8", "", "10.0.0.0/22"},
		"after a smaller route":            {"10.0.0.0/8", "10.0.0.128/25", "10.0.4.0/22"},
		"after a larger route":             {"10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/22"},
		"between two routes":               {"10.0.0.0/8", "10.0.0.0/22 10.0.8.0/22", "10.0.4.0/22"},
		"a route around the range":         {"10.0.0.0/16", "10.0.0.0/8", ""},
		"the last one":                     {"192.168.0.0/21", "192.168.0.0/22", "192.168.4.0/22"},
		"default routes and halves of all": {"10.0.0.0/22", "0.0.0.0/0 0.0.0.0/1 128.0.0.0/1", "10.0.0.0/22"},
		"the end of all addresses":         {"255.255.252.0/22", "255.255.255.255/32", ""},
		"IPv6 routes":                      {"10.0.0.0/22", "::/3 fd00::/8", "10.0.0.0/22"},
	} {
		t.Run(name, func(t *testing.T) {
			var n facts.Network
			for _, r := range strings.Fields(c.routes) {
				n.Routes = append(n.Routes, facts.Route{Destination: netip.MustParsePrefix(r), Interface: "tun0"})
			}
			got, ok := findFreeSubnet(netip.MustParsePrefix(c.within), 22, n)
			if ok != (c.want != "") || ok && got.String() != c.want {
				t.Errorf("%s, %v, want %q", got, ok, c.want)
			}
		})
	}
}

// FuzzSpecs parses any YAML as a spec and evaluates it, which must not panic.
func FuzzSpecs(f *testing.F) {
	text, err := os.ReadFile("testdata/specs.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for one := range strings.SplitSeq(string(text), "\n- name:") {
		f.Add("name:" + one)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s preflightSpec
		if yaml.Unmarshal([]byte(text), &s) != nil {
			return
		}
		p, err := Parse("spec.hostPreflights", s.Collectors, s.Analyzers)
		if err != nil {
			return
		}
		p.AddRequests(&facts.Request{}, hp.Requirements{})
		for _, c := range p.Checks {
			c.Run(specHost(), hp.Requirements{})
		}
	})
}
