package desired

import (
	"net/netip"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/token"
)

// RecordedIdentity returns the identity of this host in its receipt or, before the first
// install or join has ended, in the newest run of j that recorded one. It is zero for a
// host on which nothing is installed.
func RecordedIdentity(j *journal.Journal, r journal.Receipt) facts.Identity {
	node, machineID, address, role := r.Node, r.MachineID, r.Address, r.Role
	runs := j.Runs()
	for i := len(runs) - 1; i >= 0 && node == "" && runs[i].Verb != "reset"; i-- {
		a := runs[i].Args
		node, machineID, address, role = a.Node, a.MachineID, a.Address, a.Role
	}
	if node == "" {
		return facts.Identity{}
	}
	id := facts.Identity{Node: node, MachineID: machineID, Controller: r.Node != "" && r.Role != token.Worker}
	id.Address, _ = netip.ParseAddr(address) // earlier builds recorded none: then the zero Addr
	if last, ok := j.LastUnfinished(); ok {
		id.Repairing = last.Verb == "repair"
	}
	if startedK0s(runs) {
		id.Unit = k0s.ControllerUnit
		if role == token.Worker {
			id.Unit = k0s.WorkerUnit
		}
	}
	return id
}

// startedK0s reports whether one of runs has started k0s.
func startedK0s(runs []journal.Run) bool {
	for _, run := range runs {
		for _, s := range run.Steps {
			if s.ID == "k0s-start" {
				return true
			}
		}
	}
	return false
}
