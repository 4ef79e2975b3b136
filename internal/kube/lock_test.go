package kube_test

import (
	"errors"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestLock_IsHeldByOneNodeAtATime(t *testing.T) {
	_, c := kubetest.New(t)
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	lock := func(node string) kube.Lock {
		return kube.Lock{Name: "plinth-test", Node: node, Purpose: "restart k0s", TTL: time.Minute}
	}
	acquire := func(node string, at time.Time, holder string) {
		t.Helper()
		err := c.AcquireLock(t.Context(), lock(node), at)
		var locked *kube.LockedError
		switch {
		case holder == node && err != nil:
			t.Errorf("%s does not get it: %v", node, err)
		case holder != node && (!errors.As(err, &locked) || locked.Node != holder || err.Error() != "node a does the same since 2026-01-02T12:00:00Z: restart k0s"):
			t.Errorf("%s gets it from %s: %v", node, holder, err)
		}
	}
	acquire("a", noon, "a")
	acquire("b", noon.Add(time.Minute-1), "a")
	testkit.Must(t, c.ReleaseLock(t.Context(), lock("b"))) // not its own
	acquire("b", noon.Add(time.Second), "a")
	acquire("a", noon, "a") // a run of the same node was killed
	testkit.Must(t, c.ReleaseLock(t.Context(), lock("a")))
	testkit.Must(t, c.ReleaseLock(t.Context(), lock("a")))
	acquire("b", noon, "b")
	acquire("a", noon.Add(time.Minute), "a") // b was lost
}
