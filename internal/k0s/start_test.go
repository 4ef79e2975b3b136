package k0s

import (
	"context"
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
