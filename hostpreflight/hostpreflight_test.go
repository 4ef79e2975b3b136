package hostpreflight

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// says is a check that always answers r.
func says(id, group string, r Result, roles ...Role) Check {
	return Check{ID: id, Group: group, Title: "Title of " + id, Severity: Fail, Wants: "wants of " + id, Why: "why", Roles: roles,
		Run: func(facts.Facts, Want) Result { return r }}
}

func sample() []Check {
	return []Check{
		says("root", "Machine", Passed("root")),
		says("memory", "Machine", Failed("give it more", "%s", Bytes(512e6)).Wanting("at least %s", Bytes(2e9))),
		says("swap", "Machine", Warned("sudo swapoff -a\nand fstab", "on")),
		says("disk-space", "Disk", CannotTell("no answer within 3s")),
		says("disk-inodes", "Disk", Passed("plenty")),
		says("port-kubelet", "Ports", Failed("", "taken")),
		says("port-kube-apiserver", "Ports", Failed("", "taken"), Controller),
	}
}

func run(t *testing.T, w Want, ignore ...string) Report {
	t.Helper()
	r, err := Run(sample(), facts.Facts{Hostname: "node1"}, w, ignore)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReportCountsGroupsAndPutsFailuresLast(t *testing.T) {
	r := run(t, Want{Role: Worker}, "port-kubelet")
	if got := [5]int{r.Passed, r.Warned, r.Failed, r.Unknown, r.Skipped}; got != [5]int{2, 2, 1, 1, 1} {
		t.Errorf("passed, warned, failed, unknown, skipped: %v", got)
	}
	testkit.Golden(t, "testdata/report.txt", []byte(r.Text()))
}

func TestAnIgnoredFailureIsAVisibleWarning(t *testing.T) {
	r := run(t, Want{}, "memory", "port-kubelet", "port-kube-apiserver", "root")
	if err := r.Err("install"); err != nil {
		t.Errorf("all failures are ignored, still: %v", err)
	}
	if got := strings.Join(r.Ignored(), " "); got != "memory port-kubelet port-kube-apiserver" {
		t.Errorf("ignored: %s", got)
	}
	if !strings.Contains(r.Text(), "512 MB; wanted: at least 2.0 GB (ignored by --ignore-host-preflight)") {
		t.Errorf("an ignored failure cannot be seen:\n%s", r.Text())
	}
}

func TestFailuresAreAProblemThatNamesThem(t *testing.T) {
	err := run(t, Want{}).Err("install")
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

func TestUnknownIdsNameTheNearest(t *testing.T) {
	for given, want := range map[string]string{
		"memroy":                  `no host preflight is called "memroy"; did you mean memory?`,
		"kubelet":                 `no host preflight is called "kubelet"; did you mean port-kubelet?`,
		"disk":                    `no host preflight is called "disk"; did you mean disk-space or disk-inodes?`,
		"port-kube-apiserver-tcp": `no host preflight is called "port-kube-apiserver-tcp"; did you mean port-kube-apiserver?`,
		"quux":                    `no host preflight is called "quux"`,
		"":                        `no host preflight is called ""`,
	} {
		_, err := Run(sample(), facts.Facts{}, Want{}, []string{"root", given})
		if err == nil {
			t.Errorf("%q is ignored without a word", given)
			continue
		}
		if got := strings.TrimPrefix(err.Error(), "cannot ignore host preflights: "); got != want {
			t.Errorf("%q: %s\nwant %s", given, got, want)
		}
		if problem.ExitCode(err) != problem.ExitUsage {
			t.Errorf("%q: exit code %d", given, problem.ExitCode(err))
		}
	}
}

func TestWorstKeepsOnlyTheWorst(t *testing.T) {
	all := []Result{Passed("a"), Failed("mend", "b"), Warned("look", "c"), Failed("mend", "d"), CannotTell("e")}
	got := Worst(all)
	if got.State != Fail || got.Found != "b; d" || got.Fix != "mend" {
		t.Errorf("%+v", got)
	}
	if got := Worst(all[:1]); got.State != Pass || got.Found != "a" {
		t.Errorf("%+v", got)
	}
	if got := Worst(nil); got.State != Unknown {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestOursCoversWhatLiesBelowAndWhoStartedIt(t *testing.T) {
	o := Ours{Paths: []string{"/var/lib/k0s/", "/usr/local/bin/k0s"}, Units: []string{"k0scontroller.service"}}
	for p, want := range map[string]bool{
		"/var/lib/k0s": true, "/var/lib/k0s/bin/kubelet": true, "/var/lib/k0sother": false, "/usr/local/bin/k0s": true, "/usr/local/bin": false, "": false,
	} {
		if o.Path(p) != want {
			t.Errorf("Path(%q) = %v", p, !want)
		}
	}
	if !o.Unit("k0scontroller") || o.Unit("docker") {
		t.Error("units")
	}
	if o.Owner(nil) || o.Owner(&facts.Owner{Program: "/bin/nc"}) || !o.Owner(&facts.Owner{Program: "/pause", Parents: []string{"/var/lib/k0s/bin/containerd-shim-runc-v2"}}) {
		t.Error("owners")
	}
}

func FuzzDistance(f *testing.F) {
	f.Add("memory", "memroy")
	f.Add("", "x")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a)+len(b) > 200 {
			return
		}
		d := distance(a, b)
		if d != distance(b, a) || d > max(len(a), len(b)) || (d == 0) != (a == b) {
			t.Errorf("distance(%q, %q) = %d", a, b, d)
		}
	})
}
