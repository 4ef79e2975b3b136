package install

import (
	"context"
	"errors"
	"github.com/plinthdev/plinth/internal/testkit"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
)

const dataDir = "/var/lib/plinth"

// fakeEnv returns a fake host without any files.
func fakeEnv(t *testing.T) (*action.Env, *hosttest.Fake) {
	t.Helper()
	f := hosttest.New(t)
	testkit.Must(t, os.MkdirAll(filepath.Join(f.Root, "/proc/self"), 0o755),
		os.WriteFile(filepath.Join(f.Root, "/proc/self/mountinfo"), []byte("24 1 254:1 / / rw - ext4 /dev/vda1 rw\n"), 0o600))
	yes := func(context.Context, string) error { return nil }
	return &action.Env{Host: f.Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: func() time.Time { return time.Unix(0, 0) },
		Note: func(string) {}, Events: func(step.Event) {}, Confirm: yes}}, f
}

// startInstall returns a journal with an install that was killed after it had inspected
// the host.
func startInstall(t *testing.T, env *action.Env, args journal.Args) *journal.Journal {
	t.Helper()
	j, err := env.OpenJournal()
	testkit.Must(t, err)
	testkit.Must(t, j.BeginRun("install", args), j.BeginStep(plan.RecordHostStateID, nil), j.SaveState(plan.RecordHostStateID, cleanup.HostState{}), j.EndStep(plan.RecordHostStateID, nil), j.BeginStep("kernel", nil))
	return j
}

func TestResolveUnfinishedRun_RefusesOtherArguments(t *testing.T) {
	was := journal.Args{Cluster: "my-app", Bundle: "sha256:1", License: "sha256:2", APIAddress: "10.0.0.100"}
	is := journal.Args{Cluster: "my-app", Bundle: "sha256:1", License: "sha256:2"}
	for name, c := range map[string]struct {
		is   journal.Args
		api  string
		want []string // in the refusal; nil for none
	}{
		"the same":         {is, "10.0.0.100", nil},
		"no address given": {is, "", nil},
		"another address":  {is, "10.0.0.101", []string{"the API address was 10.0.0.100 and is now 10.0.0.101"}},
		"another bundle":   {journal.Args{Cluster: "my-app", Bundle: "sha256:9", License: "sha256:2"}, "", []string{"the bundle was sha256:1 and is now sha256:9"}},
		"another license":  {journal.Args{Cluster: "my-app", Bundle: "sha256:1", License: "sha256:3"}, "", nil},
		"all of it":        {journal.Args{Cluster: "b", ConfigValues: "sha256:3"}, "", []string{"name was my-app and is now b", "the bundle was sha256:1 and is now none"}},
	} {
		t.Run(name, func(t *testing.T) {
			env, f := fakeEnv(t)
			startInstall(t, env, was)
			if c.want != nil { // --restart inspects the network
				f.Expect("ip -j -d link").Return("[]", nil).AnyTimes()
				f.Expect("ip -").AnyTimes()
			}
			o := operation{opts: Options{APIAddress: c.api}, args: c.is}
			err := o.resolveUnfinishedRun(t.Context(), env)
			if (err != nil) != (c.want != nil) || err != nil && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(problem.Hint(err), "--restart")) {
				t.Errorf("%v, hint %q", err, problem.Hint(err))
			}
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not contain %q", err, want)
				}
			}
			o.opts.Restart = true
			testkit.Must(t, o.resolveUnfinishedRun(t.Context(), env))
			_, err = os.Stat(filepath.Join(f.Root, dataDir))
			if gone := errors.Is(err, os.ErrNotExist); gone != (c.want != nil) {
				t.Errorf("with --restart the journal is gone: %v", gone)
			}
		})
	}
}

// resolveWithRestart calls resolveUnfinishedRun as with --restart.
func resolveWithRestart(t *testing.T, env *action.Env, args journal.Args) error {
	o := operation{opts: Options{Restart: true}, args: args}
	return o.resolveUnfinishedRun(t.Context(), env)
}

func TestResolveUnfinishedRun_NeverRollsBackACompleteCluster(t *testing.T) {
	env, f := fakeEnv(t)
	startInstall(t, env, journal.Args{Bundle: "sha256:1"})
	testkit.Must(t, journal.WriteReceipt(env.Host, dataDir, journal.Receipt{Name: "my-app"}))
	testkit.Must(t, resolveWithRestart(t, env, journal.Args{Bundle: "sha256:2"}))
	if _, err := os.Stat(filepath.Join(f.Root, dataDir, journal.File)); err != nil {
		t.Error("the journal of a finished cluster is gone")
	}
}

func TestResolveUnfinishedRun_AsksBeforeItDeletesVolumes(t *testing.T) {
	env, f := fakeEnv(t)
	testkit.Must(t, startInstall(t, env, journal.Args{Bundle: "sha256:1"}).EndRun(nil))
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{dataDir + "/volumes/pvc-1/data": "precious"})
	startInstall(t, env, journal.Args{Bundle: "sha256:1"})
	var asked string
	env.Confirm = func(_ context.Context, question string) error { asked = question; return errors.New("no") }
	err := resolveWithRestart(t, env, journal.Args{Bundle: "sha256:2"})
	if err == nil || !strings.HasPrefix(asked, "The data of 1 volume (8 B) in "+dataDir+"/volumes is deleted for good.\nRoll back the unfinished install") {
		t.Errorf("%v: %q", err, asked)
	}
}

func TestInspectHost_RefusesAHostThatChangedSinceTheInstallFailed(t *testing.T) {
	nic := facts.Network{Interfaces: []facts.Interface{{Name: "eth0", Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24"), netip.MustParsePrefix("10.9.0.5/24")}}}}
	here := facts.Facts{Hostname: "N1", MachineID: "1", Network: nic}
	for name, c := range map[string]struct {
		was     journal.Args
		flags   preflight.AddressFlags
		exit    int
		address string
	}{
		"the same host":              {journal.Args{Node: "n1", MachineID: "1", Address: "10.9.0.5"}, preflight.AddressFlags{}, 0, "10.9.0.5"}, // not the first one
		"nothing was recorded":       {journal.Args{}, preflight.AddressFlags{}, 0, "10.0.0.5"},
		"nothing, and a flag":        {journal.Args{}, preflight.AddressFlags{Address: "10.9.0.5"}, 0, "10.9.0.5"},
		"renamed":                    {journal.Args{Node: "n0", MachineID: "1", Address: "10.0.0.5"}, preflight.AddressFlags{}, problem.ExitPreflight, ""},
		"another machine id":         {journal.Args{Node: "n1", MachineID: "0", Address: "10.0.0.5"}, preflight.AddressFlags{}, problem.ExitPreflight, ""},
		"another address":            {journal.Args{Node: "n1", MachineID: "1", Address: "10.0.0.6"}, preflight.AddressFlags{}, problem.ExitPreflight, ""},
		"another address is asked":   {journal.Args{Node: "n1", MachineID: "1", Address: "10.0.0.5"}, preflight.AddressFlags{Address: "10.9.0.5"}, problem.ExitUsage, ""},
		"the same address is asked":  {journal.Args{Node: "n1", MachineID: "1", Address: "10.9.0.5"}, preflight.AddressFlags{Address: "10.9.0.5"}, 0, "10.9.0.5"},
		"an address it has not":      {journal.Args{}, preflight.AddressFlags{Address: "10.9.0.99"}, 0, "invalid IP"}, // the check node-address fails
		"an interface it has not":    {journal.Args{}, preflight.AddressFlags{Interface: "eth9"}, 0, "invalid IP"},
		"no address but 10.9.0.5/33": {journal.Args{}, preflight.AddressFlags{Address: "10.9.0.5/33"}, problem.ExitUsage, ""},
	} {
		t.Run(name, func(t *testing.T) {
			env, _ := fakeEnv(t)
			startInstall(t, env, c.was)
			o := operation{opts: Options{NodeAddress: c.flags}}
			err := o.inspectHost(env, here)
			if err == nil && c.exit != 0 || err != nil && problem.ExitCode(err) != c.exit || err == nil && o.address.String() != c.address {
				t.Errorf("%v, address %s; want exit code %d, %s", err, o.address, c.exit, c.address)
			}
		})
	}
}

func TestResolveUnfinishedRun_RestartsOnARenamedHost(t *testing.T) {
	env, f := fakeEnv(t)
	testkit.Must(t, os.MkdirAll(filepath.Join(f.Root, "/proc/sys/kernel"), 0o755), os.WriteFile(filepath.Join(f.Root, "/proc/sys/kernel/hostname"), []byte("renamed\n"), 0o600))
	startInstall(t, env, journal.Args{Node: "n1"})
	f.Expect("ip -j -d link").Return("[]", nil).AnyTimes()
	f.Expect("").AnyTimes()
	testkit.Must(t, resolveWithRestart(t, env, journal.Args{}))
	if _, err := os.Stat(filepath.Join(f.Root, dataDir)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the install on the host with its earlier name was not rolled back")
	}
}

func TestResumeMessage_NamesTheStep(t *testing.T) {
	last := journal.Run{Verb: "install", StartedAt: time.Unix(0, 0).UTC(), Steps: []journal.Step{{ID: "record-host"}, {ID: "kernel"}}}
	todo := []step.Planned{{Step: "record-host"}, {Step: "data-dir"}, {Step: "kernel", Title: "Prepare the kernel"}}
	if got, want := resumeMessage(last, todo), "resuming the install started at 1970-01-01T00:00:00Z, at step 3 of 3, kernel (Prepare the kernel)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	last.Verb = restoreVerb
	if got := resumeMessage(last, todo); !strings.HasPrefix(got, "resuming the restore started at ") {
		t.Error(got)
	}
	last.Steps = nil
	if got := resumeMessage(last, todo); !strings.HasSuffix(got, "at its beginning") {
		t.Error(got)
	}
}

func TestRollBack_RestoresTheHostAndKeepsTheError(t *testing.T) {
	env, f := fakeEnv(t)
	f.Expect("ip -j -d link").Return("[]", nil).AnyTimes()
	f.Expect("ip -").AnyTimes()
	testkit.Must(t, startInstall(t, env, journal.Args{}).EndRun(nil))
	testkit.Must(t, os.MkdirAll(filepath.Join(f.Root, dataDir, "volumes/pvc-1"), 0o755), os.MkdirAll(filepath.Join(f.Root, "/var/lib/k0s/bin"), 0o755))
	o := operation{opts: Options{RollBackOnFailure: true}}
	err := o.rollBack(t.Context(), env, problem.New(problem.ExitStep, "start k0s", errors.New("no memory"), "add some"))
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "no memory") || problem.Hint(err) != "add some\neverything was rolled back: this host is as it was before" {
		t.Errorf("%v, hint %q", err, problem.Hint(err))
	}
	for _, p := range []string{dataDir, "/var/lib/k0s"} {
		if _, err := os.Stat(filepath.Join(f.Root, p)); err == nil {
			t.Errorf("%s is still there", p)
		}
	}
}

func TestConfirm_SaysWhatWasRolledBack(t *testing.T) {
	for name, c := range map[string]struct {
		rolledBack bool
		want       string
	}{
		"nothing yet":           {false, "nothing was changed"},
		"an unfinished install": {true, "the unfinished install was rolled back; nothing else was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			env, _ := fakeEnv(t)
			_, err := env.OpenJournal()
			testkit.Must(t, err)
			env.Confirm = func(context.Context, string) error {
				return problem.Newf(problem.ExitUsage, "continue", "nothing was changed", "you did not confirm")
			}
			o := &operation{config: config.Config{Installer: &spec.Installer{}}, rolledBack: c.rolledBack}
			if err := o.confirm(t.Context(), env, nil); problem.ExitCode(err) != problem.ExitUsage || problem.Hint(err) != c.want {
				t.Errorf("%v, hint %q", err, problem.Hint(err))
			}
		})
	}
}
