// Package peercheck lets two hosts verify before they share a cluster that each
// one reaches every port of the other one over TCP and UDP, which packet size
// passes, how far their clocks differ, and that they are not the same host. A
// host answers only hosts that know the shared code, and connects only to fixed
// ports of the host that asks.
package peercheck

import (
	"net/netip"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/ports"
)

// ControlPort is the TCP port on which a host answers others before there is a
// cluster, using TLS.
const ControlPort = ports.Agent

// RequestPath is the URL path to which a host sends a Request by POST; it gets
// a Response.
const RequestPath = "/v1/peer"

// UDPPort is the port that UDP and full-size packets are checked with. No node
// listens on UDP, but pods on different nodes communicate over it; one port
// represents the path between the nodes.
const UDPPort = ports.Kubelet

// RequiredPorts returns the TCP ports that one host must reach on another,
// depending on whether each is a controller: those of kube-router and kubelet
// on every node, of API server and agent on controllers, and of etcd between
// controllers.
func RequiredPorts(from, to bool) []int {
	return ports.Between(from, to)
}

// State is the state of a port on its own host.
type State string

// The states of a port.
const (
	Held   State = "held"   // bound for this check: it answers with the nonce
	InUse  State = "in use" // used by a program: only the connection itself can be checked
	Closed State = "closed" // not checked: it could not be bound, or is not part of the check
)

// PortState is the state of one port of a host.
type PortState struct {
	Port int   `json:"port"`
	TCP  State `json:"tcp"`
	UDP  State `json:"udp"`
}

// Identity is what distinguishes a host from others.
type Identity struct {
	Hostname  string       `json:"hostname"`
	MachineID string       `json:"machineId"`
	Addresses []netip.Addr `json:"addresses"` // without loopback addresses
	Traits    facts.Traits `json:"traits"`
}

// Request is what a host sends to another one.
type Request struct {
	Identity   Identity    `json:"identity"`
	Controller bool        `json:"controller,omitempty"` // the host is, or will be, a controller
	Nonce      string      `json:"nonce"`                // the answer of its own ports
	Ports      []PortState `json:"ports"`
	MTU        int         `json:"mtu"` // of its interface; 0 skips the check of the packet size
}

// Response is what the other host found, and its own identity.
type Response struct {
	Received   time.Time    `json:"received"` // its clock when the request arrived
	Identity   Identity     `json:"identity"`
	Controller bool         `json:"controller,omitempty"`
	Nonce      string       `json:"nonce"`
	Ports      []PortState  `json:"ports"`
	MTU        int          `json:"mtu"`
	Reverse    Reachability `json:"reverse"` // how it reached the requesting host
}

// Reachability is how one host reached another one.
type Reachability struct {
	Ports      []PortResult `json:"ports"`
	Packet     int          `json:"packet"`        // largest packet that passed unfragmented, in bytes; 0 if not checked, -1 if none passed
	FullPacket int          `json:"full"`          // size of a packet that should pass
	RTT        int64        `json:"rtt,omitempty"` // fastest connection, in nanoseconds; 0 if there was none
}

// PortResult is how one port was reached.
type PortResult struct {
	Number   int    `json:"number"`
	Protocol string `json:"protocol"`        // tcp or udp
	Error    string `json:"error,omitempty"` // "" if it was reached
}

// FilterPorts returns those of states whose port is in ports: no host connects
// to a port that does not belong to a node.
func FilterPorts(states []PortState, ports []int) []PortState {
	return slices.DeleteFunc(slices.Clone(states), func(e PortState) bool { return !slices.Contains(ports, e.Port) })
}
