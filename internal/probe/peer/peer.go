// Package peer owns what two hosts find out about each other before they share
// a cluster: whether every port is reached in both directions, over TCP and
// UDP, whether a full-size packet passes, how far and how far apart in time they
// are, and whether they are mistaken for one another. It refuses to speak to a
// host that does not know the shared code, to reach any port but the caller's
// own that it names from the fixed list, and to judge.
package peer

import (
	"net/netip"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
)

// ControlPort is where a host answers others before there is a cluster, TLS.
const ControlPort = 9444

// Path is where a host asks another, POST an Ask, get an Answer.
const Path = "/v1/peer"

// UDPPort is where UDP and full packets are tried. No node listens for UDP, but
// pods on different nodes talk by it; one port stands for the way between them.
const UDPPort = 10250

// Ports are the TCP ports that one host reaches on another, by whether each is
// a controller: those of kube-router and kubelet on every node; API server and
// agent on controllers; etcd between them.
func Ports(from, to bool) []int {
	switch {
	case !to:
		return []int{179, UDPPort}
	case !from:
		return []int{179, 6443, ControlPort, UDPPort}
	}
	return []int{179, 2380, 6443, ControlPort, UDPPort}
}

// State is what a host has on a port of its own.
type State string

// The states of a port.
const (
	Held   State = "held"   // bound for this test: it answers with the nonce
	InUse  State = "in use" // a program has it: that a connection is made is all that can be told
	Closed State = "closed" // nothing answers there: it could not be bound, or is not part of the test
)

// Ear is one port of a host.
type Ear struct {
	Port int   `json:"port"`
	TCP  State `json:"tcp"`
	UDP  State `json:"udp"`
}

// Identity is what makes a host one of its own.
type Identity struct {
	Hostname  string       `json:"hostname"`
	MachineID string       `json:"machineId"`
	Addresses []netip.Addr `json:"addresses"` // not those of loopback
	Traits    facts.Traits `json:"traits"`
}

// Ask is what a host tells another.
type Ask struct {
	Identity   Identity `json:"identity"`
	Controller bool     `json:"controller,omitempty"` // it is one, or is to be
	Nonce      string   `json:"nonce"`                // that its own ports answer with
	Ears       []Ear    `json:"ears"`
	MTU        int      `json:"mtu"` // of its interface; 0 leaves packets untested
}

// Answer is what the other found, and what it is.
type Answer struct {
	Received   time.Time `json:"received"` // its clock when it was asked
	Identity   Identity  `json:"identity"`
	Controller bool      `json:"controller,omitempty"`
	Nonce      string    `json:"nonce"`
	Ears       []Ear     `json:"ears"`
	MTU        int       `json:"mtu"`
	Back       Reach     `json:"back"` // how it reached the asking host
}

// Reach is how one host reached another.
type Reach struct {
	Ports  []Port `json:"ports"`
	Packet int    `json:"packet"`        // largest packet that passed unfragmented, bytes; 0 when none was tried
	Full   int    `json:"full"`          // that should have
	RTT    int64  `json:"rtt,omitempty"` // fastest connection, nanoseconds; 0 when there was none
}

// Port is how one port was reached.
type Port struct {
	Number   int    `json:"number"`
	Protocol string `json:"protocol"`        // tcp or udp
	Error    string `json:"error,omitempty"` // "" when it was reached
}

// Among are the ears on ports: no host is made to reach one that is not a node's.
func Among(ears []Ear, ports []int) []Ear {
	return slices.DeleteFunc(slices.Clone(ears), func(e Ear) bool { return !slices.Contains(ports, e.Port) })
}
