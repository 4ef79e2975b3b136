package agent

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
)

var lockTime = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestJoinLockAcquire_IsExclusive(t *testing.T) {
	_, client := kubetest.New(t)
	now := lockTime
	lock := JoinLock{client.Core(), func() time.Time { return now }}
	c2, c3 := agent.JoinRequest{Node: "n2", MachineID: "m2"}, agent.JoinRequest{Node: "n3", MachineID: "m3"}
	isLocked := func(c agent.JoinRequest, nodes ...agent.Node) bool {
		t.Helper()
		var no *agent.StatusError
		err := lock.Acquire(t.Context(), nodes, c)
		if err != nil && (!errors.As(err, &no) || no.Status != http.StatusLocked) {
			t.Fatal(err)
		}
		return err != nil
	}
	if isLocked(c2) || !isLocked(c3) || isLocked(c2) {
		t.Error("the first host does not hold the lock until it is Ready, or cannot acquire it again")
	}
	if !isLocked(c3, agent.Node{Name: "n2", MachineID: "m2"}) || isLocked(c3, agent.Node{Name: "n2", MachineID: "m2", Ready: true}) {
		t.Error("the lock is not released exactly when the node becomes Ready")
	}
	if !isLocked(c2) {
		t.Error("the second holder does not hold the lock")
	}
	now = lockTime.Add(joinLockTTL + time.Second)
	if isLocked(c2) {
		t.Error("a host that died holds the lock forever")
	}
}
