package turn

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestControllersJoinOneAfterTheOther(t *testing.T) {
	_, client := kubetest.New(t)
	at := noon
	turns := Turn{client.Core(), func() time.Time { return at }}
	c2, c3 := agent.Claim{Node: "n2", MachineID: "m2"}, agent.Claim{Node: "n3", MachineID: "m3"}
	busy := func(c agent.Claim, nodes ...agent.Node) bool {
		t.Helper()
		var no *agent.Refusal
		err := turns.Take(t.Context(), nodes, c)
		if err != nil && (!errors.As(err, &no) || no.Status != http.StatusLocked) {
			t.Fatal(err)
		}
		return err != nil
	}
	if busy(c2) || !busy(c3) || busy(c2) {
		t.Error("the first has the turn until it is up, and keeps it when it asks again")
	}
	if !busy(c3, agent.Node{Name: "n2", MachineID: "m2"}) || busy(c3, agent.Node{Name: "n2", MachineID: "m2", Ready: true}) {
		t.Error("the turn goes on when the node is Ready, not before")
	}
	if !busy(c2) {
		t.Error("the third does not have the turn")
	}
	at = noon.Add(life + time.Second)
	if busy(c2) {
		t.Error("a host that died keeps the others out for ever")
	}
}
