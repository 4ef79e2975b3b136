package join

import (
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/agent"
)

func TestReadyControllers_ReturnsOtherReadyControllers(t *testing.T) {
	node := func(address string, controller, ready bool) agent.Node {
		return agent.Node{Name: address, MachineID: "m" + address, Addresses: []string{address}, Controller: controller, Ready: ready}
	}
	all := []agent.Node{node("10.0.0.1", true, true), node("10.0.0.2", true, false), node("10.0.0.3", false, true), node("10.0.0.4", true, true),
		{Name: "without an address", Controller: true, Ready: true}}
	if got := readyControllers(all, "m10.0.0.4"); !slices.Equal(got, []string{"10.0.0.1"}) {
		t.Errorf("%v", got)
	}
}
