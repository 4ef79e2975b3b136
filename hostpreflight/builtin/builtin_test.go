package builtin

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
	"github.com/plinthdev/plinth/internal/testkit"
)

func fixture(t *testing.T, name string) facts.Facts {
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
		t.Fatalf("%s does not say where it comes from", name)
	}
	return f
}

func report(t *testing.T, f facts.Facts, w hp.Want, ignore ...string) hp.Report {
	t.Helper()
	r, err := hp.Run(Checks(), f, w, ignore)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDistributionsAreJudgedAsTheGoldensSay(t *testing.T) {
	for _, name := range []string{"debian-12", "ubuntu-24.04", "rhel-9", "rocky-10", "sles-15", "amazon-2023"} {
		t.Run(name, func(t *testing.T) {
			r := report(t, fixture(t, name), wanted())
			testkit.Golden(t, "testdata/"+name+".txt", []byte(r.Text()))
			if r.Failed != 0 {
				t.Errorf("a default %s fails %d checks", name, r.Failed)
			}
		})
	}
}

func TestReportAsJSON(t *testing.T) {
	f := fixture(t, "debian-12")
	takePort(&f, "6443/tcp", facts.Owner{PID: 812, Program: "/usr/sbin/nginx", Unit: "nginx"})
	f.Memory.Total = 1e9
	f.Unknown = append(f.Unknown, facts.Unknown{Fact: facts.FactIptables, Why: "permission denied"})
	b, err := json.MarshalIndent(report(t, f, wanted(), "memory"), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "testdata/report.json", append(b, '\n'))
}

// TestEveryFaultHasItsWords runs each fault and keeps the exact words in one
// golden; a check of the registry without a fault of its severity fails.
func TestEveryFaultHasItsWords(t *testing.T) {
	var b strings.Builder
	type answer struct {
		id    string
		state hp.State
	}
	shown := map[answer]bool{}
	for _, c := range faults() {
		f, w := fixture(t, "debian-12"), wanted()
		c.edit(&f, &w)
		r := report(t, f, w)
		i := slices.IndexFunc(r.Results, func(e hp.Entry) bool { return e.ID == c.id })
		if i < 0 {
			t.Errorf("%s: no such check", c.id)
			continue
		}
		e := r.Results[i]
		if e.State != c.state {
			t.Errorf("%s, %s: %s, want %s (%s)", c.id, c.name, e.State, c.state, e.Found)
		}
		shown[answer{c.id, e.State}] = true
		fmt.Fprintf(&b, "%s: %s\n  %-7s %s\n", c.id, c.name, e.State, e.Found)
		if e.Wanted != "" {
			fmt.Fprintf(&b, "  wanted  %s\n", e.Wanted)
		}
		if e.Fix != "" {
			fmt.Fprintf(&b, "  fix     %s\n", strings.ReplaceAll(e.Fix, "\n", "\n          "))
		}
	}
	testkit.Golden(t, "testdata/faults.txt", []byte(b.String()))
	for _, c := range Checks() {
		if !shown[answer{c.ID, c.Severity}] {
			t.Errorf("%s: no fault shows that it says %s", c.ID, c.Severity)
		}
	}
}

func TestNoCheckIsWorseThanItsSeverity(t *testing.T) {
	for _, c := range faults() {
		f, w := fixture(t, "debian-12"), wanted()
		c.edit(&f, &w)
		for _, check := range Checks() {
			if got := check.Run(f, w); check.Severity == hp.Warn && got.State == hp.Fail {
				t.Errorf("%s fails (%s), its severity is %s", check.ID, got.Found, check.Severity)
			}
		}
	}
}

func TestABadAnswerSaysWhatToDo(t *testing.T) {
	for _, c := range faults() {
		f, w := fixture(t, "debian-12"), wanted()
		c.edit(&f, &w)
		for _, e := range report(t, f, w).Results {
			if (e.State == hp.Fail || e.State == hp.Warn) && (e.Fix == "" || e.Wanted == "") {
				t.Errorf("%s, %s: no fix or no word on what is wanted", e.ID, c.name)
			}
			if e.Found == "" {
				t.Errorf("%s, %s: nothing found", e.ID, c.name)
			}
		}
	}
}

func TestIdsAreStableNamesAndUnique(t *testing.T) {
	kebab := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := map[string]bool{}
	for _, c := range Checks() {
		if !kebab.MatchString(c.ID) || seen[c.ID] {
			t.Errorf("%q is no kebab-case name, or there twice", c.ID)
		}
		seen[c.ID] = true
		if c.Group == "" || c.Title == "" || c.Wants == "" || c.Why == "" || (c.Severity != hp.Fail && c.Severity != hp.Warn) {
			t.Errorf("%s is not fully described", c.ID)
		}
	}
}

func TestNothingKnownIsUnknownAndNeverAFailure(t *testing.T) {
	f := facts.Facts{}
	for _, fact := range []string{facts.FactOS, facts.FactKernel, facts.FactCPU, facts.FactMemory, facts.FactCgroup, facts.FactDisk,
		facts.FactHostname, facts.FactLookup, facts.FactNetwork, facts.FactPort, facts.FactClock, facts.FactSync, facts.FactPrivilege,
		facts.FactSystemd, facts.FactCommands, facts.FactTraces, facts.FactIptables, facts.FactSecurity, facts.FactMachineID,
		facts.FactSettings, facts.FactProxies, facts.FactSource, facts.FactMeasure} {
		f.Unknown = append(f.Unknown, facts.Unknown{Fact: fact, Why: "not permitted"})
	}
	w := online()
	w.Earlier.Why = "not permitted"
	for _, e := range report(t, f, w).Results {
		if e.State != hp.Unknown && !strings.HasPrefix(e.ID, "peer-") { // nobody named another host
			t.Errorf("%s says %s (%s) of a host that nothing is known of", e.ID, e.State, e.Found)
		}
	}
}

func TestAWorkerIsNotAskedForTheControllersPorts(t *testing.T) {
	w := wanted()
	w.Role = hp.Worker
	r := report(t, fixture(t, "debian-12"), w)
	for _, e := range r.Results {
		if e.ID == "port-kube-apiserver" && e.State != hp.Skipped {
			t.Errorf("a worker's port 6443: %s", e.State)
		}
		if e.ID == "port-kubelet" && e.State != hp.Pass {
			t.Errorf("a worker's port 10250: %s", e.State)
		}
	}
	for _, p := range Request(w).Ports {
		if p.Number == 6443 {
			t.Error("probe is asked to bind 6443 on a worker")
		}
	}
}

// TestAConvergedHostPasses: what an own install left is no obstacle to running
// the same command again, and what is not its own still is.
func TestAConvergedHostPasses(t *testing.T) {
	f, w := fixture(t, "debian-12-k0s"), wanted()
	if err := report(t, f, w).Err("install"); err == nil || !strings.Contains(err.Error(), "port-kube-apiserver") || !strings.Contains(err.Error(), "existing-k0s") {
		t.Fatalf("a strange k0s goes unnoticed: %v", err)
	}
	w.Ours = hp.Ours{Installed: true, Paths: []string{"/usr/local/bin/k0s", "/etc/k0s", "/var/lib/k0s"}, Units: []string{"k0scontroller"}}
	if r := report(t, f, w); r.Failed != 0 {
		t.Errorf("its own k0s is taken for another's:\n%s", r.Text())
	}
	takePort(&f, "8800/tcp", facts.Owner{PID: 4711, Program: "/usr/bin/python3"})
	f.Traces = append(f.Traces, facts.Trace{Of: facts.CNI, Kind: "cni-config", Path: "/etc/cni/net.d/05-other.conf"})
	r := report(t, f, w)
	if err := r.Err("install"); err == nil || !strings.Contains(err.Error(), "port-console, leftover-cni") {
		t.Errorf("strangers beside its own k0s: %v", err)
	}
}

func takePort(f *facts.Facts, key string, o facts.Owner) {
	for i := range f.Ports {
		if strings.HasSuffix(f.Ports[i].String(), key) {
			f.Ports[i].Free, f.Ports[i].Error, f.Ports[i].Owner = false, "EADDRINUSE", &o
			return
		}
	}
	panic("no port " + key)
}
