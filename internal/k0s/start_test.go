package k0s

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
)

// patient is a systemd that starts nothing while it waits to try again.
type patient struct{ *hosttest.Fake }

func (p patient) StartUnit(ctx context.Context, unit string) error {
	if p.Unit[unit].Sub == "auto-restart" {
		return nil
	}
	return p.Fake.StartUnit(ctx, unit)
}

func TestAServiceThatWaitsToTryAgainIsStartedAtOnce(t *testing.T) {
	f := hosttest.New(t)
	f.Unit[Unit] = host.UnitState{Load: "loaded", Active: "activating", Sub: "auto-restart", Enable: "enabled"}
	h := f.Host()
	h.Units = patient{f}
	c := Service{Host: h}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if why, err := c.StartNeeded(t.Context()); why != "" || err != nil {
		t.Errorf("still to be started: %s, %v", why, err)
	}
}

func TestAnAttemptToJoinThatLeadsNowhereIsEnded(t *testing.T) {
	f := hosttest.New(t)
	s := Service{Host: f.Host(), Joins: true}
	write := func(path string) {
		t.Helper()
		if err := s.Host.Write(path, strings.NewReader("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settle := func(want bool) {
		t.Helper()
		if joined, err := s.Settle(t.Context(), func(string, int64, int64) {}); joined != want || err != nil {
			t.Errorf("joined %v, %v", joined, err)
		}
	}
	settle(false) // nothing began
	f.Unit[Unit] = host.UnitState{Load: "loaded", Active: "activating", Sub: "auto-restart", Enable: "enabled"}
	write(EtcdMember + "/snap/db") // etcd began, and never found its cluster
	if s.Joined() {
		t.Error("a member without a log")
	}
	settle(false)
	if _, err := s.Host.Lstat(EtcdMember); err == nil || f.Unit[Unit].Active != "inactive" {
		t.Errorf("%s is there, k0s is %s", EtcdMember, f.Unit[Unit].Active)
	}
	write(EtcdMember + "/snap/db")
	write(EtcdMember + "/wal/0000000000000000-0000000000000000.wal")
	f.Unit[Unit] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	settle(true)
	if f.Unit[Unit].Active != "active" {
		t.Error("a member was stopped")
	}
}

func TestAControllerThatJoinsNeverBeginsAClusterOfItsOwn(t *testing.T) {
	const path = "/etc/systemd/system/k0scontroller.service.d/join.conf"
	s := Service{Host: hosttest.New(t).Host(), Joins: true}
	i := slices.IndexFunc(s.files(), func(f file) bool { return f.path == path })
	if i < 0 {
		t.Fatalf("not among %v", s.ConfigPaths())
	}
	guard, err := s.files()[i].content()
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(guard, "-c '")
	command, _, _ = strings.Cut(command, "'")
	for _, log := range []bool{false, true} {
		dir := t.TempDir() + "/member"
		if err := errors.Join(os.MkdirAll(dir+"/snap", 0o700), os.MkdirAll(dir+"/wal", 0o700)); err != nil {
			t.Fatal(err)
		}
		if log {
			if err := os.WriteFile(dir+"/wal/0-0.wal", nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("/bin/sh", "-c", strings.ReplaceAll(command, EtcdMember, dir)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := os.Stat(dir); (err == nil) != log {
			t.Errorf("with a log %v: %v", log, err)
		}
	}
	for _, other := range []Service{{Joins: true, Worker: true}, {}} {
		if slices.Contains(other.ConfigPaths(), path) {
			t.Errorf("%+v has it", other)
		}
	}
}
