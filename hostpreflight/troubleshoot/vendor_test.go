package troubleshoot

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

type preflightSpec struct {
	Collectors []map[string]any `json:"collectors"`
	Analyzers  []map[string]any `json:"analyzers"`
}

func parse(t testing.TB, text string) (Preflights, error) {
	t.Helper()
	var s preflightSpec
	if err := yaml.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return Parse(s.Collectors, s.Analyzers)
}

func example(t testing.TB) Preflights {
	t.Helper()
	text, err := os.ReadFile("testdata/preflight.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := parse(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func fixture(t testing.TB, name string) facts.Facts {
	t.Helper()
	b, err := os.ReadFile("../builtin/testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var f facts.Facts
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	// What probe adds when the example asks for it.
	f.Ports = append(f.Ports, facts.Port{PortKey: facts.PortKey{Number: 3128, Protocol: "tcp", Address: "127.0.0.1"}, Free: true},
		facts.Port{PortKey: facts.PortKey{Number: 4789, Protocol: "udp"}, Free: true})
	f.Sources = []facts.Source{{URL: "https://replicated.app", Status: 200, TookMS: 80}}
	f.Dials = []facts.Dial{{Address: "db.example.com:5432", Status: "connected"}}
	f.Packages = []facts.Package{{Name: "nfs-common", Version: "1:2.6.2-4"}}
	f.Settings.Sysctls["vm.max_map_count"] = "65530"
	f.Kernel.Features = append(f.Kernel.Features, facts.Feature{Name: "wireguard", State: facts.Missing})
	return f
}

func want() hp.Want {
	return hp.Want{Verb: hp.Install, Disks: []hp.Disk{{Path: "/var/lib/k0s", Pods: true}}}
}

func report(t *testing.T, p Preflights, f facts.Facts, w hp.Want, ignore ...string) hp.Report {
	t.Helper()
	r, err := hp.Run(p.Checks, f, w, ignore)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheVendorsChecksAreAskedAsTheGoldensSay(t *testing.T) {
	for _, name := range []string{"debian-12", "ubuntu-24.04"} {
		testkit.Golden(t, "testdata/"+name+".txt", []byte(report(t, example(t), fixture(t, name), want()).Text()))
	}
	f := fixture(t, "debian-12")
	f.CPU.Count, f.Memory.Total, f.OS.ID, f.Kernel.Release = 16, 65<<30, "gentoo", "5.10.0-7-amd64"
	f.Sources[0] = facts.Source{URL: "https://replicated.app", Error: "connection refused"}
	f.Dials[0].Status, f.Measures.Fsync.P99 = "connection-timeout", 12*time.Millisecond
	for i := range f.Ports {
		f.Ports[i].Free, f.Ports[i].Error, f.Ports[i].Owner = false, "EADDRINUSE", &facts.Owner{PID: 4711, Program: "/usr/bin/nc"}
	}
	testkit.Golden(t, "testdata/faults.txt", []byte(report(t, example(t), f, want()).Text()))
}

func TestProbeIsToldWhatTheChecksNeed(t *testing.T) {
	r := facts.Request{Paths: []string{"/var/lib/k0s"}}
	example(t).Request(&r, want())
	got, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "testdata/request.json", append(got, '\n'))
	quick := want()
	quick.Quick = true
	r = facts.Request{}
	if example(t).Request(&r, quick); r.Fsync != "" {
		t.Error("a measure is made that the user did not want")
	}
}

func TestAStrictFailureCannotBeIgnored(t *testing.T) {
	p := example(t)
	r := report(t, p, fixture(t, "debian-12"), want(), "vendor-cpus", "vendor-amount-of-memory", "vendor-time")
	err := r.Err("install")
	if err == nil || !strings.Contains(err.Error(), "1 host preflight failed: vendor-amount-of-memory") || strings.Contains(problem.Hint(err), "--ignore-host-preflight") {
		t.Errorf("%v\n%s", err, problem.Hint(err))
	}
	if !strings.Contains(r.Text(), "(cannot be ignored: the vendor made it strict)") || !slices.Equal(r.Ignored(), []string{"vendor-cpus", "vendor-time"}) {
		t.Errorf("%v\n%s", r.Ignored(), r.Text())
	}
}

func TestWhatIsNotSupportedIsAnError(t *testing.T) {
	one := func(kind, when string) string {
		return "analyzers: [{" + kind + ": {outcomes: [{fail: {when: '" + when + "', message: m}}]}}]\n"
	}
	for text, wanted := range map[string]string{
		"collectors: [{run: {command: ls}}]":                   "spec.hostPreflights.collectors[0]: the collector run is not supported; these are: cpu, diskUsage",
		"collectors: [{}]":                                     "it must have one key",
		"collectors: [{cpu: text}]":                            "collectors[0].cpu: it must be a mapping, found text",
		"collectors: [{cpu: {collectorName: 5}}]":              "collectors[0].cpu: collectorName must be text, found a number",
		one("cpu", "count < four"):                             "\"four\" is not a whole number",
		one("memory", "< much"):                                "\"much\" is not a size such as 4Gi",
		"collectors: [{http: {post: {url: https://x}}}]":       "of http only get is supported",
		"collectors: [{cpu: {port: x}}]":                       "spec.hostPreflights.collectors[0].cpu: ",
		"collectors: [{systemPackages: {}}]":                   "spec.hostPreflights.collectors[0].systemPackages: it lists no packages",
		"collectors: [{systemPackages: {debian: [--root=/]}}]": "--root=/ is no package",
		"collectors: [{systemPackages: {debian: [a]}}]\nanalyzers: [{systemPackages: {outcomes: [{pass: {when: '{{ .Licence }}'}}]}}]": "Licence",
		"collectors: [{systemPackages: {debian: [a]}}]\nanalyzers: [{systemPackages: {outcomes: [{pass: {when: '{{ .Name }}'}}]}}]":    "example",
		"analyzers: [{certificate: {outcomes: []}}]":                    "spec.hostPreflights.analyzers[0].certificate: this analyzer is not supported",
		"analyzers: [{cpu: {outcomes: []}}]":                            "analyzers[0].cpu.outcomes: there is none",
		"analyzers: [{cpu: {outcomes: [{}]}}]":                          "outcomes[0]: it must be one of fail, warn and pass",
		"analyzers: [{cpu: {strict: '{{x}}', outcomes: [{pass: {}}]}}]": "exclude and strict are true or false",
		"analyzers: [{diskUsage: {outcomes: [{pass: {}}]}}]":            "it needs a collector of the same kind",
		"collectors: [{tcpPortStatus: {port: 1, interface: eth0}}]\nanalyzers: [{tcpPortStatus: {outcomes: [{pass: {}}]}}]":             "only lo is supported",
		"collectors: [{diskUsage: {collectorName: a, path: /a}}]\nanalyzers: [{diskUsage: {collectorName: b, outcomes: [{pass: {}}]}}]": `no collector diskUsage is called "b"`,
		one("cpu", "physical < 4"):                "only count, logical, machineArch and supports are known",
		one("cpu", "count ~ 4"):                   `there is no operator "~"`,
		one("cpu", "count supports x86-64-v9x"):   "there is no level",
		one("memory", "< lots"):                   `outcomes[0].when: "< lots": `,
		one("hostOS", "ubuntu"):                   "it has no comparison",
		one("hostOS", "ubuntu == 1 || 2"):         "it has 1 word",
		one("time", "ntp == perhaps"):             "it is one of synchronized+active",
		one("kernelModules", "overlay == gone"):   "it is one of loaded",
		one("filesystemPerformance", "p42 < 1ms"): "only p50, p99 and p999 are measured",
		one("sysctl", "vm.swappiness"):            "it must be a key, an operator and a value",
		one("ipv4Interfaces", "number > 1"):       "it is one of count",
	} {
		if _, err := parse(t, text); err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, wanted)
		}
	}
	if _, err := parse(t, "collectors: [{run: {}}, {copy: {}}]"); strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("not all is told at once: %v", err)
	}
}

func TestConditionsHoldAsTroubleshootReadsThem(t *testing.T) {
	f := facts.Facts{OS: facts.OS{ID: "ubuntu", Like: "debian", Version: "24.04", Arch: "amd64"}, Kernel: facts.Kernel{Release: "6.8.0-51-generic"},
		CPU: facts.CPU{Count: 4, Level: 3}, Disks: []facts.Disk{{Path: "/d", Size: 100 << 30, Free: 25 << 30}}, Clock: facts.Clock{Zone: "Etc/UTC"}}
	disks := collector{Path: "/d"}
	for when, c := range map[string]struct {
		kind  string
		holds bool
	}{
		"ubuntu == 24.04": {"hostOS", true}, "ubuntu >= 22.04 && < 24.04": {"hostOS", false}, "ubuntu == 20.04 || == 24.04": {"hostOS", true},
		"debian >= 11": {"hostOS", true}, "rhel >= 8": {"hostOS", false}, "kernelVersion >= 6.8": {"hostOS", true}, "kernelVersion < 4.5": {"hostOS", false},
		"count >= 4": {"cpu", true}, "> 4": {"cpu", false}, "supports x86-64-v3": {"cpu", true}, "machineArch == x86_64": {"cpu", true}, "machineArch != x86_64": {"cpu", false},
		"total >= 100Gi": {"diskUsage", true}, "used > 75Gi": {"diskUsage", false}, "available/total < 30%": {"diskUsage", true}, "used/total >= 0.75": {"diskUsage", true},
		"timezone == UTC": {"time", true}, "ntp == unsynchronized+inactive": {"time", true},
	} {
		holds, err := kinds()[c.kind].compile(disks, when)
		if err != nil {
			t.Errorf("%s: %v", when, err)
		} else if holds(f, hp.Want{}) != c.holds {
			t.Errorf("%s: %v", when, !c.holds)
		}
	}
}

// FuzzConditions gives any text to every kind's conditions: none may panic,
// when it is read or when it is asked.
func FuzzConditions(f *testing.F) {
	for _, s := range []string{"count < 4", "< 4Gi", "used/total > 80%", "ubuntu == 24.04 || >= 22", "ntp == synchronized+active", "overlay,x != loaded", "p99 < 10ms", "statusCode == 200", "error", "a.b=1", "connected"} {
		f.Add(s)
	}
	c := collector{Path: "/", Port: 1, Address: "a:1"}
	c.Get = &struct {
		URL string `json:"url"`
	}{"https://x"}
	f.Fuzz(func(t *testing.T, when string) {
		for name, k := range kinds() {
			holds, err := k.compile(c, when)
			if err == nil {
				holds(facts.Facts{}, hp.Want{})
			}
			a := analyzer{Outcomes: []outcome{{Fail: &verdict{When: when}}}}
			if k.need != nil && err == nil {
				k.need(&facts.Request{}, hp.Want{}, c, a)
			}
			_ = name
		}
	})
}
