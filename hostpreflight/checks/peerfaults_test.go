package checks

import (
	"net/netip"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// withPeer gives the host one good peer, edited by edit.
func withPeer(edit func(*facts.Facts, *facts.Peer)) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) {
		p := facts.Peer{Address: "10.0.0.9", Hostname: "other", MachineID: "0123", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
			Offset: 40 * time.Millisecond, RTT: 300 * time.Microsecond,
			Out: facts.Reachability{Tried: 10, FullPacket: 1500, LargestPacket: 1500}, In: facts.Reachability{Tried: 10, FullPacket: 1500, LargestPacket: 1500}}
		p.Traits = f.Traits()
		edit(f, &p)
		f.Peers = []facts.Peer{p}
	}
}

// withPeerOnJoin is withPeer for a joining host.
func withPeerOnJoin(edit func(*facts.Facts, *facts.Peer)) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, req *hp.Requirements) {
		req.Verb = hp.Join
		withPeer(edit)(f, req)
	}
}

// blockedPort returns one port that a packet filter blocks.
func blockedPort(port int, protocol string) []facts.Blocked {
	return []facts.Blocked{{PortKey: facts.PortKey{Number: port, Protocol: protocol}, Reason: "no answer: a packet filter drops it"}}
}

func peerFaults() []fault {
	return []fault{
		{"peer-answer", "none given", hp.Skipped, func(*facts.Facts, *hp.Requirements) {}},
		{"peer-answer", "no fault", hp.Pass, withPeer(func(*facts.Facts, *facts.Peer) {})},
		{"peer-answer", "it does not listen", hp.Fail, withPeer(func(_ *facts.Facts, p *facts.Peer) { *p = facts.Peer{Address: "10.0.0.9", Error: "connection refused"} })},
		{"peer-answer", "its agent does not run yet, joining", hp.Warn, withPeerOnJoin(func(_ *facts.Facts, p *facts.Peer) {
			*p = facts.Peer{Address: "10.0.0.9", Error: "no response at 9444/tcp", NotListening: true}
		})},
		{"peer-answer", "not reachable, joining", hp.Fail, withPeerOnJoin(func(_ *facts.Facts, p *facts.Peer) {
			*p = facts.Peer{Address: "10.0.0.9", Error: "9444/tcp: no answer: a packet filter drops it"}
		})},
		{"peer-answer", "already a node", hp.Skipped, func(_ *facts.Facts, req *hp.Requirements) { req.Verb = hp.Join }},
		{"peer-ports", "no response", hp.Skipped, withPeer(func(_ *facts.Facts, p *facts.Peer) { *p = facts.Peer{Address: "10.0.0.9", Error: "connection refused"} })},
		{"peer-identity", "no fault", hp.Pass, withPeer(func(*facts.Facts, *facts.Peer) {})},
		{"peer-identity", "the same host name", hp.Fail, withPeer(func(f *facts.Facts, p *facts.Peer) { p.Hostname = f.Hostname })},
		{"peer-identity", "a cloned machine", hp.Fail, withPeer(func(f *facts.Facts, p *facts.Peer) {
			p.MachineID, p.Addresses = f.MachineID, f.Network.UplinkAddresses()
		})},
		{"peer-ports", "no fault", hp.Pass, withPeer(func(*facts.Facts, *facts.Peer) {})},
		{"peer-ports", "10250/udp blocked to the peer", hp.Fail, withPeer(func(_ *facts.Facts, p *facts.Peer) { p.Out.Blocked = blockedPort(10250, "udp") })},
		{"peer-ports", "10250/tcp blocked from the peer", hp.Fail, withPeer(func(_ *facts.Facts, p *facts.Peer) { p.In.Blocked = blockedPort(10250, "tcp") })},
		{"peer-packet", "no fault", hp.Pass, withPeer(func(*facts.Facts, *facts.Peer) {})},
		{"peer-packet", "a tunnel in between", hp.Fail, withPeer(func(_ *facts.Facts, p *facts.Peer) { p.Out.LargestPacket = 1450 })},
		{"peer-packet", "no packet from the peer", hp.Fail, withPeer(func(_ *facts.Facts, p *facts.Peer) { p.In.LargestPacket = -1 })},
		{"peer-packet", "no UDP port is open", hp.Unknown, withPeer(func(_ *facts.Facts, p *facts.Peer) { p.In.LargestPacket, p.Out.LargestPacket = 0, 0 })},
		{"peer-clock", "no fault", hp.Pass, withPeer(func(*facts.Facts, *facts.Peer) {})},
		{"peer-clock", "three seconds apart", hp.Warn, withPeer(func(_ *facts.Facts, p *facts.Peer) { p.Offset = -3 * time.Second })},
		{"peer-clock", "ten minutes apart", hp.Fail, withPeer(func(_ *facts.Facts, p *facts.Peer) { p.Offset = 10 * time.Minute })},
		{"peer-distance", "no fault", hp.Pass, withPeer(func(*facts.Facts, *facts.Peer) {})},
		{"peer-alike", "no fault", hp.Pass, withPeer(func(*facts.Facts, *facts.Peer) {})},
		{"peer-alike", "another distribution and MTU", hp.Warn, withPeer(func(_ *facts.Facts, p *facts.Peer) { p.Traits.System, p.Traits.MTU = "rhel 9", 9000 })},
		{"peer-alike", "traits not known", hp.Pass, withPeer(func(_ *facts.Facts, p *facts.Peer) { p.Traits = facts.Traits{} })},
		{"peer-distance", "long round trip", hp.Warn, withPeer(func(_ *facts.Facts, p *facts.Peer) { p.RTT = 83 * time.Millisecond })},
	}
}
