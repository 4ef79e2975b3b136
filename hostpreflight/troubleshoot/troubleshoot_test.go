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

// parseYAML parses the YAML text of a HostPreflight's spec.
func parseYAML(t testing.TB, text string) (Preflights, error) {
	t.Helper()
	var s preflightSpec
	if err := yaml.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return Parse("spec.hostPreflights", s.Collectors, s.Analyzers)
}

// parseExample parses testdata/preflight.yaml.
func parseExample(t testing.TB) Preflights {
	t.Helper()
	text, err := os.ReadFile("testdata/preflight.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := parseYAML(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// loadFixture returns the facts of a fixture of the built-in checks, with the facts
// that the example requests.
func loadFixture(t testing.TB, name string) facts.Facts {
	t.Helper()
	b, err := os.ReadFile("../checks/testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var f facts.Facts
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	f.Ports = append(f.Ports, facts.Port{PortKey: facts.PortKey{Number: 3128, Protocol: "tcp", Address: "127.0.0.1"}, Free: true},
		facts.Port{PortKey: facts.PortKey{Number: 4789, Protocol: "udp"}, Free: true})
	f.Sources = []facts.Source{{URL: "https://replicated.app", Status: 200, TookMS: 80}}
	f.Dials = []facts.Dial{{Address: "db.example.com:5432", Status: "connected"}}
	f.Packages = []facts.Package{{Name: "nfs-common", Version: "1:2.6.2-4"}}
	f.Settings.Sysctls["vm.max_map_count"] = "65530"
	f.Kernel.Features = append(f.Kernel.Features, facts.Feature{Name: "wireguard", State: facts.Missing})
	return f
}

func exampleRequirements() hp.Requirements {
	return hp.Requirements{Verb: hp.Install, WritePaths: []hp.WritePath{{Path: "/var/lib/k0s", Pods: true}}}
}

// runChecks runs the checks of p on f and returns the report.
func runChecks(t *testing.T, p Preflights, f facts.Facts, req hp.Requirements, ignore ...string) hp.Report {
	t.Helper()
	r, err := hp.Run(p.Checks, f, req, ignore)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParse_ChecksMatchGoldenReports(t *testing.T) {
	for _, name := range []string{"debian-12", "ubuntu-24.04"} {
		t.Run(name, func(t *testing.T) {
			testkit.Golden(t, "testdata/"+name+".txt", []byte(runChecks(t, parseExample(t), loadFixture(t, name), exampleRequirements()).Text()))
		})
	}
	f := loadFixture(t, "debian-12")
	f.CPU.Count, f.Memory.Total, f.OS.ID, f.Kernel.Release = 16, 65<<30, "gentoo", "5.10.0-7-amd64"
	f.Sources[0] = facts.Source{URL: "https://replicated.app", Error: "connection refused"}
	f.Dials[0].Status, f.Measures.Fsync.P99 = "connection-timeout", 12*time.Millisecond
	for i := range f.Ports {
		f.Ports[i].Free, f.Ports[i].Error, f.Ports[i].Owner = false, "EADDRINUSE", &facts.Owner{PID: 4711, Program: "/usr/bin/nc"}
	}
	testkit.Golden(t, "testdata/faults.txt", []byte(runChecks(t, parseExample(t), f, exampleRequirements()).Text()))
}

func TestAddRequests_RequestsFactsOfAllChecks(t *testing.T) {
	r := facts.Request{Paths: []string{"/var/lib/k0s"}}
	parseExample(t).AddRequests(&r, exampleRequirements())
	got, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "testdata/request.json", append(got, '\n'))
	quick := exampleRequirements()
	quick.Quick = true
	r = facts.Request{}
	if parseExample(t).AddRequests(&r, quick); r.FsyncPath != "" {
		t.Error("a benchmark is requested despite --quick")
	}
}

func TestParse_StrictFailureCannotBeIgnored(t *testing.T) {
	p := parseExample(t)
	r := runChecks(t, p, loadFixture(t, "debian-12"), exampleRequirements(), "vendor-cpus", "vendor-amount-of-memory", "vendor-time")
	err := r.Err("install")
	if err == nil || !strings.Contains(err.Error(), "1 host preflight failed: vendor-amount-of-memory") || strings.Contains(problem.Hint(err), "--ignore-host-preflight") {
		t.Errorf("%v\n%s", err, problem.Hint(err))
	}
	if !strings.Contains(r.Text(), "(cannot be ignored: the vendor marked it as strict)") || !slices.Equal(r.IgnoredIDs(), []string{"vendor-cpus", "vendor-time"}) {
		t.Errorf("%v\n%s", r.IgnoredIDs(), r.Text())
	}
}

func TestParse_RejectsUnsupportedSpecs(t *testing.T) {
	one := func(kind, when string) string {
		return "analyzers: [{" + kind + ": {outcomes: [{fail: {when: '" + when + "', message: m}}]}}]\n"
	}
	for text, wanted := range map[string]string{
		"collectors: [{copy: {path: /a}}]":                "spec.hostPreflights.collectors[0]: collector copy is not supported; supported are: blockDevices, certificate",
		"collectors: [{}]":                                "must have exactly one key",
		"collectors: [{cpu: text}]":                       "collectors[0].cpu: value must be a mapping, found text",
		"collectors: [{cpu: {collectorName: 5}}]":         "collectors[0].cpu: collectorName must be text, found a number",
		one("cpu", "count < four"):                        "\"four\" is not a whole number",
		one("memory", "< much"):                           "\"much\" is not a size such as 4Gi",
		"collectors: [{http: {post: {url: https://x}}}]":  "http supports only get",
		"collectors: [{cpu: {port: x}}]":                  "spec.hostPreflights.collectors[0].cpu: ",
		`collectors: [{"a\nb: c": text}]`:                 `spec.hostPreflights.collectors[0]: "a\nb: c" is not the kind of a collector or analyzer`,
		`analyzers: [{"": {}}]`:                           `spec.hostPreflights.analyzers[0]: "" is not the kind`,
		"collectors: [{cpu: {port: 1.5}}]":                "collectors[0].cpu: port must be a whole number, found 1.5",
		"analyzers: [{cpu: {minimumAcceptableSize: -1}}]": "analyzers[0].cpu: minimumAcceptableSize must be a whole number from 0, found -1",
		`analyzers: [{cpu: {exclude: {a: "b\nc"}, strict: 1, outcomes: [{pass: {}}]}}]`:                                                 `exclude and strict must be true or false, not {"a":"b\nc"}`,
		"collectors: [{systemPackages: {}}]":                                                                                            "spec.hostPreflights.collectors[0].systemPackages: must list at least one package",
		"collectors: [{systemPackages: {debian: [--root=/]}}]":                                                                          "--root=/ is not the name of a package",
		"collectors: [{systemPackages: {debian: [a]}}]\nanalyzers: [{systemPackages: {outcomes: [{pass: {when: '{{ .License }}'}}]}}]":  "License",
		"collectors: [{systemPackages: {debian: [a]}}]\nanalyzers: [{systemPackages: {outcomes: [{pass: {when: '{{ .Name }}'}}]}}]":     "example",
		"analyzers: [{kernelConfigs: {outcomes: []}}]":                                                                                  "spec.hostPreflights.analyzers[0].kernelConfigs: analyzer is not supported",
		"analyzers: [{cpu: {outcomes: []}}]":                                                                                            "analyzers[0].cpu.outcomes: must not be empty",
		"analyzers: [{cpu: {outcomes: [{}]}}]":                                                                                          "outcomes[0]: must be exactly one of fail, warn and pass",
		"analyzers: [{cpu: {strict: '{{x}}', outcomes: [{pass: {}}]}}]":                                                                 "exclude and strict must be true or false",
		"analyzers: [{diskUsage: {outcomes: [{pass: {}}]}}]":                                                                            "it needs a collector of the same kind",
		"collectors: [{tcpPortStatus: {port: 1, interface: eth0}}]\nanalyzers: [{tcpPortStatus: {outcomes: [{pass: {}}]}}]":             "the only supported interface of its collector is lo",
		"collectors: [{diskUsage: {collectorName: a, path: /a}}]\nanalyzers: [{diskUsage: {collectorName: b, outcomes: [{pass: {}}]}}]": `there is no diskUsage collector with collectorName "b"`,
		"collectors: [{http: {get: {url: 'file:///etc/passwd'}}}]":                                                                      "collectors[0].http: get.url: must be an http or https URL with a host",
		"collectors: [{http: {get: {url: 'http://'}}}]":                                                                                 "get.url: must be an http or https URL with a host",
		"collectors: [{http: {get: {url: 'http://a', timeout: abc}}}]":                                                                  `get.timeout: "abc" is not a duration`,
		"collectors: [{run: {command: sh, timeout: -1s}}]":                                                                              `collectors[0].run: timeout: "-1s" must be above 0 and at most 1m0s`,
		"collectors: [{run: {command: sh, timeout: 10h}}]":                                                                              `timeout: "10h" must be above 0 and at most 1m0s`,
		"collectors: [{tcpLoadBalancer: {port: 1, address: a, timeout: 61s}}]":                                                          `timeout: "61s" must be above 0 and at most 1m0s`,
		one("cpu", "sockets < 4"):                 "supported are only count, logical, physical, machineArch, supports and hasFlags",
		one("cpu", "count ~ 4"):                   `unknown operator "~"`,
		one("cpu", "count supports x86-64-v9x"):   "unknown level",
		one("memory", "< lots"):                   `outcomes[0].when: "< lots": `,
		one("hostOS", "ubuntu"):                   "has no comparison",
		one("hostOS", "ubuntu == 1 || 2"):         "has 1 word",
		one("time", "ntp == perhaps"):             "must be one of synchronized+active",
		one("kernelModules", "overlay == gone"):   "must be one of loaded",
		one("filesystemPerformance", "p42 < 1ms"): "supported are only p50, p99 and p999",
		one("sysctl", "vm.swappiness"):            "must be a key, an operator and a value",
		one("ipv4Interfaces", "number > 1"):       "must be one of count",
	} {
		t.Run(wanted, func(t *testing.T) {
			if _, err := parseYAML(t, text); err == nil || !strings.Contains(err.Error(), wanted) {
				t.Errorf("%s\ngot  %v\nwant %s", text, err, wanted)
			}
		})
	}
	if _, err := parseYAML(t, `{collectors: [{"a\nb": {}}], analyzers: [{cpu: {exclude: ["\n"], strict: "\n", outcomes: [{pass: {}}]}}]}`); strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("a problem has more than one line: %v", err)
	}
	if _, err := parseYAML(t, "analyzers: [{memory: {outcomes: [{fail: {when: '< 8Gx'}}, {warn: {when: '<< 8'}}, {}, {pass: {when: foo}}]}}]"); strings.Count(err.Error(), "spec.hostPreflights.analyzers[0].memory.outcomes[") != 4 {
		t.Errorf("not all conditions are in the error: %v", err)
	}
	if _, err := parseYAML(t, "collectors: [{run: {}}, {copy: {}}]"); strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("not all problems are in the error: %v", err)
	}
}

func TestParse_NumbersTheChecksOfOneName(t *testing.T) {
	const many = 10_000
	analyzers := make([]map[string]any, many)
	for i := range analyzers {
		analyzers[i] = map[string]any{"cpu": map[string]any{"checkName": "CPU", "outcomes": []any{map[string]any{"pass": map[string]any{}}}}}
	}
	analyzers[0]["cpu"].(map[string]any)["checkName"] = "cpu 3"
	testkit.CheckBounds(t, func() {
		p, err := Parse("spec.hostPreflights", nil, analyzers)
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		for _, c := range p.Checks {
			ids[c.ID] = true
		}
		if p.Checks[1].ID != "vendor-cpu" || p.Checks[2].ID != "vendor-cpu-2" || p.Checks[3].ID != "vendor-cpu-4" || len(ids) != many {
			t.Errorf("%d IDs, from %s %s %s", len(ids), p.Checks[1].ID, p.Checks[2].ID, p.Checks[3].ID)
		}
	})
}

func TestCompileCondition_HoldsAsInTroubleshoot(t *testing.T) {
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
		t.Run(c.kind+"/"+when, func(t *testing.T) {
			holds, err := analyzerKinds()[c.kind].compileCondition(disks, analyzer{}, when)
			if err != nil {
				t.Error(err)
			} else if holds(f, hp.Requirements{}) != c.holds {
				t.Errorf("%v, want %v", !c.holds, c.holds)
			}
		})
	}
}

// FuzzConditions compiles and evaluates any text as a condition of every kind, which
// must not panic.
func FuzzConditions(f *testing.F) {
	for _, s := range []string{"count < 4", "< 4Gi", "used/total > 80%", "ubuntu == 24.04 || >= 22", "ntp == synchronized+active", "overlay,x != loaded", "p99 < 10ms", "statusCode == 200", "error", "a.b=1", "connected"} {
		f.Add(s)
	}
	c := collector{Path: "/", Port: 1, Address: "a:1"}
	c.Get = &httpGet{URL: "https://x"}
	f.Fuzz(func(t *testing.T, when string) {
		for _, k := range analyzerKinds() {
			holds, err := k.compileCondition(c, analyzer{}, when)
			if err == nil {
				holds(facts.Facts{}, hp.Requirements{})
			}
			a := analyzer{Outcomes: []outcome{{Fail: &verdict{When: when}}}}
			if k.addRequest != nil && err == nil {
				k.addRequest(&facts.Request{}, hp.Requirements{}, c, a)
			}
		}
	})
}
