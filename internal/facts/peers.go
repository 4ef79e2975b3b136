package facts

import (
	"net/netip"
	"time"
)

// Peer is what this host and another found out about each other.
type Peer struct {
	Address   string       `json:"address"`         // that was asked
	Error     string       `json:"error,omitempty"` // why there was no answer; the rest is empty then
	Hostname  string       `json:"hostname,omitempty"`
	MachineID string       `json:"machineId,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Traits    Traits       `json:"traits,omitzero"`
	// Absent says that the host is there, but that nobody answers for it.
	Absent bool `json:"absent,omitempty"`
	// Offset is how far this host's clock is ahead of the peer's.
	Offset time.Duration `json:"offset,omitempty"`
	RTT    time.Duration `json:"rtt,omitempty"` // fastest connection; 0 when there was none
	Out    Reach         `json:"out,omitzero"`  // from this host to the peer
	In     Reach         `json:"in,omitzero"`   // from the peer to this host
}

// Reach is how one host reached another.
type Reach struct {
	Tried   int       `json:"tried"`             // ports, each protocol by itself
	Blocked []Blocked `json:"blocked,omitempty"` // those that were not reached
	Full    int       `json:"full,omitempty"`    // size of the packet that should pass; 0 when none was tried
	Packet  int       `json:"packet,omitempty"`  // largest that passed; -1 for none
}

// Blocked is a port that one host did not reach on another.
type Blocked struct {
	PortKey
	Why string `json:"why"`
}
