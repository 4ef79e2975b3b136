package k0s

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/testkit"
)

// delayedUnits is a systemd that starts nothing while it waits for an automatic
// restart.
type delayedUnits struct{ *hosttest.Fake }

func (d delayedUnits) StartUnit(ctx context.Context, unit string) error {
	if d.Units[unit].Sub == "auto-restart" {
		return nil
	}
	return d.Fake.StartUnit(ctx, unit)
}

func TestStart_EndsDelayBeforeAutomaticRestart(t *testing.T) {
	f := hosttest.New(t)
	f.Units[ControllerUnit] = host.UnitState{Load: "loaded", Active: "activating", Sub: "auto-restart", Enable: "enabled"}
	h := f.Host()
	h.Units = delayedUnits{f}
	c := Service{Host: h}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if why, err := c.StartNeeded(t.Context()); why != "" || err != nil {
		t.Errorf("still to be started: %s, %v", why, err)
	}
}

func TestStart_RemovesManifestsOfDisabledMetricsServer(t *testing.T) {
	for name, c := range map[string]struct{ disabled, worker, kept bool }{
		"enabled":  {false, false, true},
		"disabled": {true, false, false},
		"a worker": {true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := Service{Host: hosttest.New(t).Host(), Worker: c.worker, Settings: Settings{NoMetricsServer: c.disabled}}
			const file, other = metricsServerManifests + "/metric_server.yaml", DataDir + "/manifests/coredns/coredns.yaml"
			for _, path := range []string{file, other} {
				testkit.Must(t, s.Host.Write(path, strings.NewReader("x"), 0o600))
			}
			testkit.Must(t, s.Start(t.Context()))
			if _, err := s.Host.Lstat(file); (err == nil) != c.kept {
				t.Errorf("%s: %v", file, err)
			}
			if _, err := s.Host.Lstat(other); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestResetFailedJoin_RemovesDataOfFailedJoinOnly(t *testing.T) {
	f := hosttest.New(t)
	s := Service{Host: f.Host(), JoinsCluster: true}
	write := func(path string) {
		t.Helper()
		if err := s.Host.Write(path, strings.NewReader("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reset := func(want bool) {
		t.Helper()
		if joined, err := s.ResetFailedJoin(t.Context(), func(string, int64, int64) {}); joined != want || err != nil {
			t.Errorf("joined %v, %v", joined, err)
		}
	}
	reset(false) // no attempt to join yet
	f.Units[ControllerUnit] = host.UnitState{Load: "loaded", Active: "activating", Sub: "auto-restart", Enable: "enabled"}
	write(EtcdMemberDir + "/snap/db") // etcd started and never found its cluster
	if s.Joined() {
		t.Error("a host without a write-ahead log is reported as a member")
	}
	reset(false)
	if _, err := s.Host.Lstat(EtcdMemberDir); err == nil || f.Units[ControllerUnit].Active != "inactive" {
		t.Errorf("%s exists, k0s is %s", EtcdMemberDir, f.Units[ControllerUnit].Active)
	}
	write(EtcdMemberDir + "/snap/db")
	write(EtcdMemberDir + "/wal/0000000000000000-0000000000000000.wal")
	f.Units[ControllerUnit] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	reset(true)
	if f.Units[ControllerUnit].Active != "active" {
		t.Error("a member was stopped")
	}
}

func TestConfigFiles_JoinGuardRemovesEtcdWithoutLog(t *testing.T) {
	const path = "/etc/systemd/system/k0scontroller.service.d/join.conf"
	s := Service{Host: hosttest.New(t).Host(), JoinsCluster: true}
	i := slices.IndexFunc(s.configFiles(), func(f configFile) bool { return f.path == path })
	if i < 0 {
		t.Fatalf("not among %v", s.ConfigPaths())
	}
	guard, err := s.configFiles()[i].content()
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(guard, "-c '")
	command, _, _ = strings.Cut(command, "'")
	for _, log := range []bool{false, true} {
		t.Run(fmt.Sprintf("write-ahead log %v", log), func(t *testing.T) {
			dir := t.TempDir() + "/member"
			if err := errors.Join(os.MkdirAll(dir+"/snap", 0o700), os.MkdirAll(dir+"/wal", 0o700)); err != nil {
				t.Fatal(err)
			}
			if log {
				if err := os.WriteFile(dir+"/wal/0-0.wal", nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := exec.Command("/bin/sh", "-c", strings.ReplaceAll(command, EtcdMemberDir, dir)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if _, err := os.Stat(dir); (err == nil) != log {
				t.Error(err)
			}
		})
	}
	for name, other := range map[string]Service{"worker": {JoinsCluster: true, Worker: true}, "first controller": {}} {
		t.Run(name, func(t *testing.T) {
			if slices.Contains(other.ConfigPaths(), path) {
				t.Errorf("%+v has it", other)
			}
		})
	}
}

// An address that begins like another one is another one.
func TestRegisterNeeded_ComparesWholeArguments(t *testing.T) {
	for name, c := range map[string]struct {
		registered, address string
		needed              bool
	}{
		"the same":             {`"--kubelet-extra-args=--node-ip=10.0.0.5"`, "10.0.0.5", false},
		"without quotes":       {`--kubelet-extra-args=--node-ip=10.0.0.5`, "10.0.0.5", false},
		"with a further flag":  {`"--kubelet-extra-args=--node-ip=10.0.0.5 --v=2"`, "10.0.0.5", false},
		"a longer one":         {`"--kubelet-extra-args=--node-ip=10.0.0.50"`, "10.0.0.5", true},
		"another one":          {`"--kubelet-extra-args=--node-ip=10.0.0.6"`, "10.0.0.5", true},
		"a longer one, and it": {`"--x=--kubelet-extra-args=--node-ip=10.0.0.50" "--kubelet-extra-args=--node-ip=10.0.0.5"`, "10.0.0.5", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := Service{Host: hosttest.New(t).Host(), Worker: true, Settings: Settings{Address: c.address}}
			testkit.Must(t, s.Host.Write(s.UnitPath(), strings.NewReader("ExecStart=/usr/local/bin/k0s worker "+c.registered+"\n"), 0o644))
			if why, err := s.RegisterNeeded(); err != nil || (why != "") != c.needed {
				t.Errorf("%q, %v", why, err)
			}
		})
	}
}

func TestHasArgument_AcceptsTheFormsOfK0s(t *testing.T) {
	for unit, c := range map[string]struct {
		argument string
		want     bool
	}{
		`k0s controller "--enable-worker=true" "--config=/etc/k0s/k0s.yaml"`: {"--enable-worker", true},
		`k0s controller --enable-worker`:                                     {"--enable-worker", true},
		`k0s controller --enable-workers=2`:                                  {"--enable-worker", false},
		`k0s controller "--config=/etc/k0s/k0s.yaml=x"`:                      {"--config=/etc/k0s/k0s.yaml", false},
	} {
		t.Run(unit, func(t *testing.T) {
			if got := hasArgument(unit, c.argument); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestStart_RestartsK0sWhoseFilesChanged(t *testing.T) {
	running := host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	for name, c := range map[string]struct {
		before    host.UnitState
		change    bool // the program or the configuration changes while k0s is in that state
		boot      bool // the host boots between the change and the start
		needed    bool
		restarted bool
	}{
		"nothing changed":          {running, false, false, false, false},
		"changed":                  {running, true, false, true, true},
		"changed, then booted":     {running, true, true, false, false},
		"changed while it is down": {host.UnitState{Load: "loaded", Active: "inactive", Sub: "dead"}, true, false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			f.Units[ControllerUnit] = c.before
			s := Service{Host: f.Host()}
			if c.change {
				testkit.Must(t, s.RequireRestart(t.Context()))
			}
			if c.boot {
				testkit.Must(t, s.Host.RemoveAll("/run/k0s"))
			}
			if why, err := s.StartNeeded(t.Context()); (why != "") != c.needed || err != nil {
				t.Errorf("start needed: %q, %v", why, err)
			}
			testkit.Must(t, s.Start(t.Context()))
			if got := slices.Contains(f.Restarts, ControllerUnit); got != c.restarted {
				t.Errorf("restarted: %v", got)
			}
			if why, err := s.StartNeeded(t.Context()); why != "" || err != nil {
				t.Errorf("still needed: %q, %v", why, err)
			}
		})
	}
}
