package k0s

import (
	"context"
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
