package join

import (
	"fmt"
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

func TestControllerAddresses_BeginWithThoseOfTheToken(t *testing.T) {
	nodes := []agent.Node{{Name: "c1", Controller: true, Addresses: []string{"10.0.0.1"}}, {Name: "w1", Addresses: []string{"10.0.0.9"}},
		{Name: "c2", Controller: true, Addresses: []string{"10.0.0.2"}}, {Name: "c3", Controller: true}}
	got := controllerAddresses([]string{"api.example.com:9444", "10.0.0.2:9444", "[::ffff:10.0.0.3]:9444", "damaged"}, nodes)
	if want := "[10.0.0.2 10.0.0.3 10.0.0.1]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}
