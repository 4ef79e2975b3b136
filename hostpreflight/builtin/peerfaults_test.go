package builtin

import (
	"net/netip"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// beside gives the host one good peer, and then spoils it.
func beside(spoil func(*facts.Facts, *facts.Peer)) func(*facts.Facts, *hp.Want) {
	return func(f *facts.Facts, _ *hp.Want) {
		p := facts.Peer{Address: "10.0.0.9", Hostname: "other", MachineID: "0123", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
			Offset: 40 * time.Millisecond, RTT: 300 * time.Microsecond,
			Out: facts.Reach{Tried: 10, Full: 1500, Packet: 1500}, In: facts.Reach{Tried: 10, Full: 1500, Packet: 1500}}
		p.Traits = f.Traits()
		spoil(f, &p)
		f.Peers = []facts.Peer{p}
	}
}

// joining is beside, for a host that joins.
func joining(spoil func(*facts.Facts, *facts.Peer)) func(*facts.Facts, *hp.Want) {
	return func(f *facts.Facts, w *hp.Want) {
		w.Verb = hp.Join
		beside(spoil)(f, w)
	}
}

func blocked(port int, protocol string) []facts.Blocked {
	return []facts.Blocked{{PortKey: facts.PortKey{Number: port, Protocol: protocol}, Why: "no answer: a packet filter drops it"}}
}

func peerFaults() []fault {
	return []fault{
		{"peer-answer", "none named", hp.Skipped, func(*facts.Facts, *hp.Want) {}},
		{"peer-answer", "a good one", hp.Pass, beside(func(*facts.Facts, *facts.Peer) {})},
		{"peer-answer", "it does not listen", hp.Fail, beside(func(_ *facts.Facts, p *facts.Peer) { *p = facts.Peer{Address: "10.0.0.9", Error: "connection refused"} })},
		{"peer-answer", "its agent does not run yet, joining", hp.Warn, joining(func(_ *facts.Facts, p *facts.Peer) {
			*p = facts.Peer{Address: "10.0.0.9", Error: "nobody answers at 9444/tcp", Absent: true}
		})},
		{"peer-answer", "out of reach, joining", hp.Fail, joining(func(_ *facts.Facts, p *facts.Peer) {
			*p = facts.Peer{Address: "10.0.0.9", Error: "9444/tcp: no answer: a packet filter drops it"}
		})},
		{"peer-answer", "a node already", hp.Skipped, func(_ *facts.Facts, w *hp.Want) { w.Verb = hp.Join }},
		{"peer-ports", "nobody answers", hp.Skipped, beside(func(_ *facts.Facts, p *facts.Peer) { *p = facts.Peer{Address: "10.0.0.9", Error: "connection refused"} })},
		{"peer-identity", "a good one", hp.Pass, beside(func(*facts.Facts, *facts.Peer) {})},
		{"peer-identity", "the same name", hp.Fail, beside(func(f *facts.Facts, p *facts.Peer) { p.Hostname = f.Hostname })},
		{"peer-identity", "a clone", hp.Fail, beside(func(f *facts.Facts, p *facts.Peer) { p.MachineID, p.Addresses = f.MachineID, f.Network.Own() })},
		{"peer-ports", "a good one", hp.Pass, beside(func(*facts.Facts, *facts.Peer) {})},
		{"peer-ports", "10250/udp blocked towards it", hp.Fail, beside(func(_ *facts.Facts, p *facts.Peer) { p.Out.Blocked = blocked(10250, "udp") })},
		{"peer-ports", "10250/tcp blocked from it", hp.Fail, beside(func(_ *facts.Facts, p *facts.Peer) { p.In.Blocked = blocked(10250, "tcp") })},
		{"peer-packet", "a good one", hp.Pass, beside(func(*facts.Facts, *facts.Peer) {})},
		{"peer-packet", "a tunnel on the way", hp.Fail, beside(func(_ *facts.Facts, p *facts.Peer) { p.Out.Packet = 1450 })},
		{"peer-packet", "nothing passes back", hp.Fail, beside(func(_ *facts.Facts, p *facts.Peer) { p.In.Packet = -1 })},
		{"peer-packet", "no UDP port is open", hp.Unknown, beside(func(_ *facts.Facts, p *facts.Peer) { p.In.Packet, p.Out.Packet = 0, 0 })},
		{"peer-clock", "a good one", hp.Pass, beside(func(*facts.Facts, *facts.Peer) {})},
		{"peer-clock", "three seconds apart", hp.Warn, beside(func(_ *facts.Facts, p *facts.Peer) { p.Offset = -3 * time.Second })},
		{"peer-clock", "ten minutes apart", hp.Fail, beside(func(_ *facts.Facts, p *facts.Peer) { p.Offset = 10 * time.Minute })},
		{"peer-distance", "a good one", hp.Pass, beside(func(*facts.Facts, *facts.Peer) {})},
		{"peer-alike", "a good one", hp.Pass, beside(func(*facts.Facts, *facts.Peer) {})},
		{"peer-alike", "another system, another size of packets", hp.Warn, beside(func(_ *facts.Facts, p *facts.Peer) { p.Traits.System, p.Traits.MTU = "rhel 9", 9000 })},
		{"peer-alike", "one that kept nothing", hp.Pass, beside(func(_ *facts.Facts, p *facts.Peer) { p.Traits = facts.Traits{} })},
		{"peer-distance", "another continent", hp.Warn, beside(func(_ *facts.Facts, p *facts.Peer) { p.RTT = 83 * time.Millisecond })},
	}
}
