package hostpreflight

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// fixedCheck returns a check with the constant result r.
func fixedCheck(id, group string, r Result, roles ...Role) Check {
	return Check{ID: id, Group: group, Title: "Title of " + id, Severity: Fail, Expected: "expectation of " + id, Rationale: "why", Roles: roles,
		Run: func(facts.Facts, Requirements) Result { return r }}
}

func sampleChecks() []Check {
	return []Check{
		fixedCheck("root", "Machine", Passed("root")),
		fixedCheck("memory", "Machine", Failed("give it more", "%s", FormatBytes(512e6)).WithExpected("at least %s", FormatBytes(2e9))),
		fixedCheck("swap", "Machine", Warned("sudo swapoff -a\nand fstab", "on")),
		fixedCheck("disk-space", "Disk", Undetermined("no response within 3s")),
		fixedCheck("disk-inodes", "Disk", Passed("plenty")),
		fixedCheck("port-kubelet", "Ports", Failed("", "in use")),
		fixedCheck("port-kube-apiserver", "Ports", Failed("", "in use"), Controller),
	}
}

// runSample runs sampleChecks and returns the report.
func runSample(t *testing.T, req Requirements, ignore ...string) Report {
	t.Helper()
	r, err := Run(sampleChecks(), facts.Facts{Hostname: "node1"}, req, ignore)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReport_CountsResultsAndPutsFailuresLast(t *testing.T) {
	r := runSample(t, Requirements{Role: Worker}, "port-kubelet")
	if got := [5]int{r.Passed, r.Warned, r.Failed, r.Unknown, r.Skipped}; got != [5]int{2, 2, 1, 1, 1} {
		t.Errorf("passed, warned, failed, unknown, skipped: %v", got)
	}
	testkit.Golden(t, "testdata/report.txt", []byte(r.Text()))
}

func TestRun_ReportsIgnoredFailuresAsWarnings(t *testing.T) {
	r := runSample(t, Requirements{}, "memory", "port-kubelet", "port-kube-apiserver", "root")
	if err := r.Err("install"); err != nil {
		t.Errorf("all failures are ignored, but: %v", err)
	}
	if got := strings.Join(r.IgnoredIDs(), " "); got != "memory port-kubelet port-kube-apiserver" {
		t.Errorf("ignored: %s", got)
	}
	if !strings.Contains(r.Text(), "512 MB; wanted: at least 2.0 GB (ignored by --ignore-host-preflight)") {
		t.Errorf("an ignored failure is not visible:\n%s", r.Text())
	}
}

func TestReport_SaysWhoForbidsToIgnoreCheck(t *testing.T) {
	for id, want := range map[string]string{"systemd": "none; wanted: expectation of systemd (cannot be ignored)\n", "vendor-x": "none; wanted: expectation of vendor-x (cannot be ignored: the vendor marked it as strict)\n"} {
		t.Run(id, func(t *testing.T) {
			c := fixedCheck(id, "Machine", Failed("", "none"))
			c.Strict = true
			r, err := Run([]Check{c}, facts.Facts{}, Requirements{}, []string{id})
			if err != nil || r.Failed != 1 || !strings.Contains(r.Text(), want) {
				t.Errorf("%v: %s", err, r.Text())
			}
		})
	}
}

func TestReport_WarningTextIsOneLineEachUnlessDetailed(t *testing.T) {
	r := runSample(t, Requirements{}, "memory")
	worker := runSample(t, Requirements{Role: Worker})
	testkit.Golden(t, "testdata/warnings.txt", []byte(r.WarningText(false)+"\n\n"+r.WarningText(true)+"\n\n"+worker.WarningText(false)+"\n"))
	if got := (Report{}).WarningText(false); got != "" {
		t.Errorf("no warnings: %q", got)
	}
}

func TestReport_VerboseTextHasReasons(t *testing.T) {
	r := Report{Results: []Entry{{ID: "swap", Rationale: "kubelet does not start", Result: Result{State: Fail, Fix: "swapoff -a"}}}}
	if !strings.Contains(r.VerboseText(), "why: kubelet does not start\n") || strings.Contains(r.Text(), "why:") {
		t.Errorf("%s", r.VerboseText())
	}
}

func TestReportErr_NamesFailedChecks(t *testing.T) {
	err := runSample(t, Requirements{}).Err("install")
	if problem.ExitCode(err) != problem.ExitPreflight {
		t.Fatalf("exit code %d", problem.ExitCode(err))
	}
	if got, want := err.Error(), "cannot install: 3 host preflights failed: memory, port-kubelet, port-kube-apiserver"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !strings.Contains(problem.Hint(err), "--ignore-host-preflight memory,port-kubelet,port-kube-apiserver") {
		t.Errorf("hint: %s", problem.Hint(err))
	}
}

func TestRun_SuggestsSimilarIDsForUnknownOnes(t *testing.T) {
	for given, want := range map[string]string{
		"memroy":                  `unknown host preflight "memroy"; did you mean memory?`,
		"kubelet":                 `unknown host preflight "kubelet"; did you mean port-kubelet?`,
		"disk":                    `unknown host preflight "disk"; did you mean disk-space or disk-inodes?`,
		"port-kube-apiserver-tcp": `unknown host preflight "port-kube-apiserver-tcp"; did you mean port-kube-apiserver?`,
		"quux":                    `unknown host preflight "quux"`,
		"":                        `unknown host preflight ""`,
	} {
		t.Run(given, func(t *testing.T) {
			_, err := Run(sampleChecks(), facts.Facts{}, Requirements{}, []string{"root", given})
			if err == nil {
				t.Fatalf("%q is ignored without an error", given)
			}
			if got := strings.TrimPrefix(err.Error(), "cannot ignore host preflights: "); got != want {
				t.Errorf("%s\nwant %s", got, want)
			}
			if problem.ExitCode(err) != problem.ExitUsage {
				t.Errorf("exit code %d", problem.ExitCode(err))
			}
		})
	}
}

func TestWorstResult_KeepsOnlyTheWorstState(t *testing.T) {
	all := []Result{Passed("a"), Failed("fix it", "b"), Warned("look", "c"), Failed("fix it", "d"), Undetermined("e")}
	got := WorstResult(all)
	if got.State != Fail || got.Found != "b; d" || got.Fix != "fix it" {
		t.Errorf("%+v", got)
	}
	if got := WorstResult(all[:1]); got.State != Pass || got.Found != "a" {
		t.Errorf("%+v", got)
	}
	if got := WorstResult(nil); got.State != Unknown {
		t.Errorf("without results: %+v", got)
	}
}

func TestOwned_CoversFilesBelowAndChildProcesses(t *testing.T) {
	o := Owned{Paths: []string{"/var/lib/k0s/", "/usr/local/bin/k0s"}, Units: []string{"k0scontroller.service"}}
	for p, want := range map[string]bool{
		"/var/lib/k0s": true, "/var/lib/k0s/bin/kubelet": true, "/var/lib/k0sother": false, "/usr/local/bin/k0s": true, "/usr/local/bin": false, "": false,
	} {
		t.Run(p, func(t *testing.T) {
			if o.HasPath(p) != want {
				t.Errorf("%q: %v", p, !want)
			}
		})
	}
	if !o.HasUnit("k0scontroller") || o.HasUnit("docker") {
		t.Error("HasUnit is wrong")
	}
	if o.HasProcess(nil) || o.HasProcess(&facts.Owner{Program: "/bin/nc"}) || !o.HasProcess(&facts.Owner{Program: "/pause", Parents: []string{"/var/lib/k0s/bin/containerd-shim-runc-v2"}}) {
		t.Error("HasProcess is wrong")
	}
}
