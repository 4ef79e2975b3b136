package checks

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// loadFixture returns the facts in testdata/name.json.
func loadFixture(t *testing.T, name string) facts.Facts {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var f facts.Facts
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	if f.Source == "" {
		t.Fatalf("%s has no source", name)
	}
	return f
}

// runChecks runs all checks on f and returns the report.
func runChecks(t *testing.T, f facts.Facts, req hp.Requirements, ignore ...string) hp.Report {
	t.Helper()
	r, err := hp.Run(All(), f, req, ignore)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAll_MatchesGoldenReportPerDistribution(t *testing.T) {
	for _, name := range []string{"debian-12", "ubuntu-24.04", "rhel-9", "rocky-10", "sles-15", "amazon-2023"} {
		t.Run(name, func(t *testing.T) {
			r := runChecks(t, loadFixture(t, name), exampleRequirements())
			testkit.Golden(t, "testdata/"+name+".txt", []byte(r.Text()))
			if r.Failed != 0 {
				t.Errorf("%d checks fail on a default %s", r.Failed, name)
			}
		})
	}
}

func TestReport_MatchesGoldenJSON(t *testing.T) {
	f := loadFixture(t, "debian-12")
	takePort(&f, "6443/tcp", facts.Owner{PID: 812, Program: "/usr/sbin/nginx", Unit: "nginx"})
	f.Memory.Total = 1e9
	f.Unknown = append(f.Unknown, facts.Unknown{Fact: facts.FactIptables, Reason: "permission denied"})
	b, err := json.MarshalIndent(runChecks(t, f, exampleRequirements(), "memory"), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "testdata/report.json", append(b, '\n'))
}

// TestAll_ReportsEveryFault runs each fault and compares the exact messages with one
// golden file. It fails if there is no fault that shows a check at its severity.
func TestAll_ReportsEveryFault(t *testing.T) {
	var b strings.Builder
	type outcome struct {
		id    string
		state hp.State
	}
	shown := map[outcome]bool{}
	for _, c := range faults() {
		f, req := loadFixture(t, "debian-12"), exampleRequirements()
		c.edit(&f, &req)
		r := runChecks(t, f, req)
		i := slices.IndexFunc(r.Results, func(e hp.Entry) bool { return e.ID == c.id })
		if i < 0 {
			t.Errorf("%s: no such check", c.id)
			continue
		}
		e := r.Results[i]
		t.Run(c.id+"/"+c.name, func(t *testing.T) {
			if e.State != c.state {
				t.Errorf("%s, want %s (%s)", e.State, c.state, e.Found)
			}
		})
		shown[outcome{c.id, e.State}] = true
		fmt.Fprintf(&b, "%s: %s\n  %-7s %s\n", c.id, c.name, e.State, e.Found)
		if e.Expected != "" {
			fmt.Fprintf(&b, "  wanted  %s\n", e.Expected)
		}
		if e.Fix != "" {
			fmt.Fprintf(&b, "  fix     %s\n", strings.ReplaceAll(e.Fix, "\n", "\n          "))
		}
	}
	testkit.Golden(t, "testdata/faults.txt", []byte(b.String()))
	for _, c := range All() {
		if !shown[outcome{c.ID, c.Severity}] {
			t.Errorf("%s: no fault with state %s", c.ID, c.Severity)
		}
	}
}

func TestCheck_IsNeverWorseThanItsSeverity(t *testing.T) {
	for _, c := range faults() {
		t.Run(c.id+"/"+c.name, func(t *testing.T) {
			f, req := loadFixture(t, "debian-12"), exampleRequirements()
			c.edit(&f, &req)
			for _, check := range All() {
				if got := check.Run(f, req); check.Severity == hp.Warn && got.State == hp.Fail {
					t.Errorf("%s fails (%s), its severity is %s", check.ID, got.Found, check.Severity)
				}
			}
		})
	}
}

func TestResult_HasFindingExpectationAndFix(t *testing.T) {
	for _, c := range faults() {
		t.Run(c.id+"/"+c.name, func(t *testing.T) {
			f, req := loadFixture(t, "debian-12"), exampleRequirements()
			c.edit(&f, &req)
			for _, e := range runChecks(t, f, req).Results {
				if (e.State == hp.Fail || e.State == hp.Warn) && (e.Fix == "" || e.Expected == "") {
					t.Errorf("%s: no fix or no expectation", e.ID)
				}
				if e.Found == "" {
					t.Errorf("%s: nothing found", e.ID)
				}
			}
		})
	}
}

func TestAll_HasUniqueKebabCaseIDs(t *testing.T) {
	kebab := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := map[string]bool{}
	for _, c := range All() {
		if !kebab.MatchString(c.ID) || seen[c.ID] {
			t.Errorf("%q is not kebab-case, or not unique", c.ID)
		}
		seen[c.ID] = true
		if c.Group == "" || c.Title == "" || c.Expected == "" || c.Rationale == "" || (c.Severity != hp.Fail && c.Severity != hp.Warn) {
			t.Errorf("%s is not fully described", c.ID)
		}
	}
}

func TestAll_IsUnknownWithoutFacts(t *testing.T) {
	f := facts.Facts{}
	for _, fact := range []string{facts.FactOS, facts.FactKernel, facts.FactCPU, facts.FactMemory, facts.FactCgroup, facts.FactDisk,
		facts.FactHostname, facts.FactLookup, facts.FactNetwork, facts.FactPort, facts.FactClock, facts.FactClockSync, facts.FactPrivilege,
		facts.FactSystemd, facts.FactCommands, facts.FactTraces, facts.FactIptables, facts.FactSecurity, facts.FactMachineID,
		facts.FactSettings, facts.FactProxies, facts.FactSource, facts.FactMeasure, facts.FactRuntime} {
		f.Unknown = append(f.Unknown, facts.Unknown{Fact: fact, Reason: "not permitted"})
	}
	for _, role := range []hp.Role{hp.Controller, hp.Worker} {
		t.Run(string(role), func(t *testing.T) {
			req := onlineRequirements()
			req.Role, req.Previous.Reason, req.Recorded.Node = role, "not permitted", "h1"
			req.Ports = map[string]int{ports.LoadBalancerState: ports.SpeakerHealth, ports.IngressHTTP: 80, ports.IngressHTTPS: 443}
			for _, e := range runChecks(t, f, req).Results {
				if e.State != hp.Unknown && e.SkippedBy != "role" && !slices.Contains([]string{"data-folder", "earlier-run", "backup-schedule", "snapshot-folder"}, e.ID) && !strings.HasPrefix(e.ID, "peer-") { // no other host was given
					t.Errorf("%s: %s (%s) without any facts", e.ID, e.State, e.Found)
				}
			}
		})
	}
}

func TestAll_SkipsControllerPortsOnWorkers(t *testing.T) {
	req := exampleRequirements()
	req.Role = hp.Worker
	r := runChecks(t, loadFixture(t, "debian-12"), req)
	for _, e := range r.Results {
		if e.ID == "port-kube-apiserver" && e.State != hp.Skipped {
			t.Errorf("port 6443 of a worker: %s", e.State)
		}
		if e.ID == "port-kubelet" && e.State != hp.Pass {
			t.Errorf("port 10250 of a worker: %s", e.State)
		}
	}
	for _, p := range FactsRequest(req).Ports {
		if p.Number == 6443 && p.Address != "127.0.0.1" {
			t.Error("port 6443 is requested on all addresses of a worker")
		}
	}
}

// TestAll_PassesOnInstalledHost verifies that the same command can run again on a host
// with its own install, and that foreign software still fails there.
func TestAll_PassesOnInstalledHost(t *testing.T) {
	f, req := loadFixture(t, "debian-12-k0s"), exampleRequirements()
	if err := runChecks(t, f, req).Err("install"); err == nil || !strings.Contains(err.Error(), "port-kube-apiserver") || !strings.Contains(err.Error(), "existing-k0s") {
		t.Fatalf("a foreign k0s is not reported: %v", err)
	}
	req.Owned = hp.Owned{Installed: true, Paths: []string{"/usr/local/bin/k0s", "/etc/k0s", "/var/lib/k0s"}, Units: []string{"k0scontroller"}}
	if r := runChecks(t, f, req); r.Failed != 0 {
		t.Errorf("its own k0s is reported as foreign:\n%s", r.Text())
	}
	takePort(&f, "8800/tcp", facts.Owner{PID: 4711, Program: "/usr/bin/python3"})
	f.Traces = append(f.Traces, facts.Trace{Software: facts.CNI, Kind: "cni-config", Path: "/etc/cni/net.d/05-other.conf"})
	r := runChecks(t, f, req)
	if err := r.Err("install"); err == nil || !strings.Contains(err.Error(), "port-console, leftover-cni") {
		t.Errorf("foreign software beside its own k0s: %v", err)
	}
}

// takePort marks the port whose notation ends in key as used by o.
func takePort(f *facts.Facts, key string, o facts.Owner) {
	for i := range f.Ports {
		if strings.HasSuffix(f.Ports[i].String(), key) {
			f.Ports[i].Free, f.Ports[i].Error, f.Ports[i].Owner = false, "EADDRINUSE", &o
			return
		}
	}
	panic("no port " + key)
}

// An install without root is refused in any case.
func TestRoot_CannotBeIgnored(t *testing.T) {
	f := loadFixture(t, "debian-12")
	f.Privilege.UID = 1000
	r := runChecks(t, f, exampleRequirements(), "root")
	if err := r.Err("install"); err == nil || strings.Contains(problem.Hint(err), "root") || slices.Contains(r.IgnoredIDs(), "root") {
		t.Errorf("%v (%s)", err, problem.Hint(err))
	}
}
