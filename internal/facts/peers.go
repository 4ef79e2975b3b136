package facts

import (
	"net/netip"
	"time"
)

// Peer is the result of the checks between this host and another.
type Peer struct {
	Address   string       `json:"address"`         // address of the other host
	Error     string       `json:"error,omitempty"` // why it did not respond; the other fields are empty then
	Hostname  string       `json:"hostname,omitempty"`
	MachineID string       `json:"machineId,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Traits    Traits       `json:"traits,omitzero"`
	// NotListening is true if the host was reached but its agent does not listen.
	NotListening bool `json:"absent,omitempty"`
	// Offset is how far this host's clock is ahead of the peer's.
	Offset time.Duration `json:"offset,omitempty"`
	RTT    time.Duration `json:"rtt,omitempty"` // fastest connection; 0 if there was none
	Out    Reachability  `json:"out,omitzero"`  // from this host to the peer
	In     Reachability  `json:"in,omitzero"`   // from the peer to this host
}

// Reachability is how one host reached another.
type Reachability struct {
	Tried         int       `json:"tried"`             // number of ports, counted per protocol
	Blocked       []Blocked `json:"blocked,omitempty"` // ports that were not reached
	FullPacket    int       `json:"full,omitempty"`    // size of the packet that should pass; 0 if none was tried
	LargestPacket int       `json:"packet,omitempty"`  // size of the largest packet that passed; -1 for none
}

// Blocked is a port that one host did not reach on another.
type Blocked struct {
	PortKey
	Reason string `json:"reason"`
}
