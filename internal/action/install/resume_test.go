package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

const dataDir = "/var/lib/plinth"

// fakeOperation returns an install on a fake host without any files.
func fakeOperation(t *testing.T) (operation, *hosttest.Fake) {
	t.Helper()
	f := hosttest.New(t)
	must(t, os.MkdirAll(filepath.Join(f.Root, "/proc/self"), 0o755),
		os.WriteFile(filepath.Join(f.Root, "/proc/self/mountinfo"), []byte("24 1 254:1 / / rw - ext4 /dev/vda1 rw\n"), 0o600))
	yes := func(context.Context, string) error { return nil }
	return operation{&action.Env{Host: f.Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: func() time.Time { return time.Unix(0, 0) },
		Note: func(string) {}, Events: func(step.Event) {}, Confirm: yes}}}, f
}

// startInstall returns a journal with an install that was killed after it had inspected
// the host.
func startInstall(t *testing.T, o operation, args map[string]string) *journal.Journal {
	t.Helper()
	j, err := o.OpenJournal()
	must(t, err)
	must(t, j.BeginRun("install", args), j.BeginStep(plan.RecordHostStateID, nil), j.SaveState(plan.RecordHostStateID, cleanup.HostState{}), j.EndStep(plan.RecordHostStateID, nil), j.BeginStep("kernel", nil))
	return j
}

func TestResolveUnfinishedRun_RefusesOtherArguments(t *testing.T) {
	was := map[string]string{action.ArgName: "my-app", argBundle: "sha256:1", argLicense: "sha256:2", argAPI: "10.0.0.100"}
	is := map[string]string{action.ArgName: "my-app", argBundle: "sha256:1", argLicense: "sha256:2"}
	for name, c := range map[string]struct {
		is   map[string]string
		api  string
		want []string // in the refusal; nil for none
	}{
		"the same":         {is, "10.0.0.100", nil},
		"no address given": {is, "", nil},
		"another address":  {is, "10.0.0.101", []string{"the API address was 10.0.0.100 and is now 10.0.0.101"}},
		"another bundle":   {map[string]string{action.ArgName: "my-app", argBundle: "sha256:9", argLicense: "sha256:2"}, "", []string{"the bundle was sha256:1 and is now sha256:9"}},
		"another license":  {map[string]string{action.ArgName: "my-app", argBundle: "sha256:1", argLicense: "sha256:3"}, "", nil},
		"all of it":        {map[string]string{action.ArgName: "b", argConfig: "sha256:3"}, "", []string{"name was my-app and is now b", "the bundle was sha256:1 and is now none"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, f := fakeOperation(t)
			startInstall(t, o, was)
			if c.want != nil { // --restart inspects the network
				f.Expect("ip -j -d link").Return("[]", nil).AnyTimes()
				f.Expect("ip -").AnyTimes()
			}
			req := Options{args: c.is, APIAddress: c.api}
			err := o.resolveUnfinishedRun(t.Context(), req)
			if (err != nil) != (c.want != nil) || err != nil && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(problem.Hint(err), "--restart")) {
				t.Errorf("%v, hint %q", err, problem.Hint(err))
			}
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not contain %q", err, want)
				}
			}
			req.Restart = true
			must(t, o.resolveUnfinishedRun(t.Context(), req))
			_, err = os.Stat(filepath.Join(f.Root, dataDir))
			if gone := errors.Is(err, os.ErrNotExist); gone != (c.want != nil) {
				t.Errorf("with --restart the journal is gone: %v", gone)
			}
		})
	}
}

// resolveWithRestart calls resolveUnfinishedRun as with --restart.
func (o operation) resolveWithRestart(t *testing.T, args map[string]string) error {
	return o.resolveUnfinishedRun(t.Context(), Options{Restart: true, args: args})
}

func TestResolveUnfinishedRun_NeverRollsBackACompleteCluster(t *testing.T) {
	o, f := fakeOperation(t)
	startInstall(t, o, map[string]string{argBundle: "sha256:1"})
	must(t, journal.WriteReceipt(o.Host, dataDir, journal.Receipt{Name: "my-app"}))
	must(t, o.resolveWithRestart(t, map[string]string{argBundle: "sha256:2"}))
	if _, err := os.Stat(filepath.Join(f.Root, dataDir, journal.File)); err != nil {
		t.Error("the journal of a finished cluster is gone")
	}
}

func TestResolveUnfinishedRun_RefusesAfterAnUnfinishedReset(t *testing.T) {
	o, _ := fakeOperation(t)
	j := startInstall(t, o, nil)
	must(t, j.EndRun(nil), j.BeginRun("reset", nil))
	err := o.resolveUnfinishedRun(t.Context(), Options{Restart: true})
	if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(problem.Hint(err), "plinth reset cluster") {
		t.Errorf("%v, hint %q", err, problem.Hint(err))
	}
}

func TestResumeMessage_NamesTheStep(t *testing.T) {
	last := journal.Run{Verb: "install", StartedAt: time.Unix(0, 0).UTC(), Steps: []journal.Step{{ID: "record-host"}, {ID: "kernel"}}}
	todo := []step.Planned{{Step: "record-host"}, {Step: "data-dir"}, {Step: "kernel", Title: "Prepare the kernel"}}
	if got, want := resumeMessage(last, todo), "resuming the install started at 1970-01-01T00:00:00Z, at step 3 of 3, kernel (Prepare the kernel)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	last.Steps = nil
	if got := resumeMessage(last, todo); !strings.HasSuffix(got, "at its beginning") {
		t.Error(got)
	}
}

func TestRollBack_RestoresTheHostAndKeepsTheError(t *testing.T) {
	o, f := fakeOperation(t)
	f.Expect("ip -j -d link").Return("[]", nil).AnyTimes()
	f.Expect("ip -").AnyTimes()
	j := startInstall(t, o, nil)
	must(t, os.MkdirAll(filepath.Join(f.Root, dataDir, "volumes/pvc-1"), 0o755), os.MkdirAll(filepath.Join(f.Root, "/var/lib/k0s/bin"), 0o755))
	err := o.rollBack(t.Context(), j, false, problem.New(problem.ExitStep, "start k0s", errors.New("no memory"), "add some"))
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "no memory") || problem.Hint(err) != "add some\neverything was rolled back: this host is as it was before" {
		t.Errorf("%v, hint %q", err, problem.Hint(err))
	}
	for _, p := range []string{dataDir, "/var/lib/k0s"} {
		if _, err := os.Stat(filepath.Join(f.Root, p)); err == nil {
			t.Errorf("%s is still there", p)
		}
	}
}
