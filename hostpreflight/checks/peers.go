package checks

import (
	"fmt"
	"slices"
	"strings"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/ports"
)

// The limits. etcd's members expect a heartbeat every 100 ms and elect a new leader
// after 1 s (its tuning guide: the round trip should be a tenth of the heartbeat);
// new certificates are not valid yet for a clock that is behind.
const (
	rttWarnLimit   = 10 * time.Millisecond
	clockWarnLimit = 2 * time.Second
	clockFailLimit = time.Minute
)

// peerChecks returns the checks between this host and others: that they reach each
// other at every port in both directions, that full packets pass, that their clocks
// agree, and that each has its own identity.
func peerChecks() []hp.Check {
	const group = "Other hosts"
	all := []hp.Check{
		{ID: "peer-answer", Title: "Other hosts respond", Severity: hp.Fail, Expected: "each host responds and knows the code",
			Rationale: "a host that does not respond cannot form a cluster with this one.", Run: checkPeersAnswer},
		{ID: "peer-identity", Title: "Unique hosts", Severity: hp.Fail, Expected: "a unique name, machine id and addresses for each host",
			Rationale: "a second node of the same name replaces the first one; cloned machines share their machine id.", Run: runForReachablePeers(checkPeerIdentity)},
		{ID: "peer-ports", Title: "Ports in both directions", Severity: hp.Fail, Expected: "every port of a node reachable over TCP in both directions, and 10250 over UDP too",
			Rationale: "nodes, routes and the API need each of them, and pods look up names over UDP; a filter that blocks one direction shows only minutes after a join.", Run: checkOpenPeerPorts},
		{ID: "peer-packet", Title: "Full packets", Severity: hp.Fail, Expected: "a packet of the interface's MTU passes unfragmented in both directions",
			Rationale: "packets of pods are encapsulated in others; if full packets are lost, small requests work and large responses hang.", Run: runForReachablePeers(checkPeerPackets)},
		{ID: "peer-clock", Title: "Clock difference", Severity: hp.Fail, Expected: "at most 1 min apart; warns from 2 s",
			Rationale: "new certificates and tokens are not valid yet for a clock that is behind.", Run: runForReachablePeers(checkPeerClocks)},
		{ID: "peer-distance", Title: "Round-trip time", Severity: hp.Warn, Expected: "at most 10 ms between controllers",
			Rationale: "etcd's members lose their leader when heartbeats are late (etcd's tuning guide).", Roles: []hp.Role{hp.Controller}, Run: runForReachablePeers(checkPeerRoundTrip)},
		{ID: "peer-alike", Title: "Similar hosts", Severity: hp.Warn, Expected: "the same architecture, distribution, control groups, SELinux mode, time zone and MTU as on the other hosts",
			Rationale: "pods behave differently on different hosts: images do not start, files cannot be read, large packets are lost, logs cannot be compared.", Run: runForReachablePeers(checkPeersAlike)},
	}
	for i := range all {
		all[i].Group, all[i].Verbs = group, []hp.Verb{hp.Install, hp.Join}
	}
	return all
}

// skipWithoutPeers returns a skipped result that says why no other host was checked.
func skipWithoutPeers(req hp.Requirements) hp.Result {
	if req.Verb == hp.Join {
		return hp.Skip("install", "this host is already a node, or no other controller is ready")
	}
	return hp.Skip("user", "no other hosts were given (--peers)")
}

// runForReachablePeers returns a check that calls run with the peers that responded.
// The check peer-answer reports the others.
func runForReachablePeers(run func([]facts.Peer, facts.Facts) hp.Result) func(facts.Facts, hp.Requirements) hp.Result {
	return func(f facts.Facts, req hp.Requirements) hp.Result {
		if len(f.Peers) == 0 {
			return skipWithoutPeers(req)
		}
		var reachable []facts.Peer
		for _, p := range f.Peers {
			if p.Error == "" {
				reachable = append(reachable, p)
			}
		}
		if len(reachable) == 0 {
			return hp.Skip("peer-answer", "no other host responded")
		}
		return run(reachable, f)
	}
}

// resultOfFindings returns a pass with the finding good when wrong is empty,
// otherwise a result with the given state, the findings in wrong, and fix.
func resultOfFindings(state hp.State, wrong []string, good, fix string) hp.Result {
	if len(wrong) == 0 {
		return hp.Result{State: hp.Pass, Found: good}
	}
	return hp.Result{State: state, Found: strings.Join(wrong, "; "), Fix: fix}
}

// peerAddresses returns the addresses of all, separated by commas.
func peerAddresses(all []facts.Peer) string {
	var out []string
	for _, p := range all {
		out = append(out, p.Address)
	}
	return strings.Join(out, ", ")
}

// checkPeersAnswer reports the peers that did not respond. A controller that has
// just joined and whose agent does not run yet is only a warning for a joining host.
func checkPeersAnswer(f facts.Facts, req hp.Requirements) hp.Result {
	if len(f.Peers) == 0 {
		return skipWithoutPeers(req)
	}
	state, fix := hp.Warn, fmt.Sprintf("run on that host: sudo plinth preflight --listen (it needs port %d/tcp and prints the code)", ports.Agent)
	if req.Verb == hp.Join {
		fix = fmt.Sprintf("allow port %d/tcp to that host, and run there: systemctl status plinth-agent", ports.Agent)
	}
	var wrong []string
	for _, p := range f.Peers {
		if p.Error != "" {
			wrong = append(wrong, p.Address+": "+p.Error)
		}
		if p.Error != "" && (req.Verb != hp.Join || !p.NotListening) {
			state = hp.Fail
		}
	}
	return resultOfFindings(state, wrong, hp.FormatCount(len(f.Peers), "host")+": "+peerAddresses(f.Peers), fix)
}

func checkPeersAlike(all []facts.Peer, f facts.Facts) hp.Result {
	var wrong []string
	for _, p := range all {
		for _, d := range f.Traits().Differences(p.Traits) {
			wrong = append(wrong, fmt.Sprintf("%s: %s here, %s on %s", d.What, d.Here, d.Other, p.Address))
		}
	}
	return resultOfFindings(hp.Warn, wrong, "no difference", "configure this host like the others; intended differences can stay")
}

func checkPeerIdentity(all []facts.Peer, f facts.Facts) hp.Result {
	var wrong []string
	for _, p := range all {
		if strings.EqualFold(p.Hostname, f.Hostname) {
			wrong = append(wrong, fmt.Sprintf("%s has this host's name, %s", p.Address, f.Hostname))
		}
		if p.MachineID != "" && p.MachineID == f.MachineID {
			wrong = append(wrong, fmt.Sprintf("%s has this host's machine id", p.Address))
		}
		for _, a := range f.Network.UplinkAddresses() {
			if slices.Contains(p.Addresses, a) {
				wrong = append(wrong, fmt.Sprintf("%s also has this host's address %s", p.Address, a))
			}
		}
	}
	return resultOfFindings(hp.Fail, wrong, "all differ from this host",
		"give each host a unique name (sudo hostnamectl set-hostname NAME) and a unique machine id: sudo rm /etc/machine-id && sudo systemd-machine-id-setup")
}

// checkOpenPeerPorts is checkPeerPorts for reachable peers. If the install opens the firewall of this
// host, what that blocks now says nothing.
func checkOpenPeerPorts(f facts.Facts, req hp.Requirements) hp.Result {
	if req.ConfigureFirewall && len(Firewalls(f, req)) > 0 {
		f.Peers = slices.Clone(f.Peers)
		for i := range f.Peers {
			f.Peers[i].In.Tried -= len(f.Peers[i].In.Blocked)
			f.Peers[i].In.Blocked = nil
		}
	}
	return runForReachablePeers(checkPeerPorts)(f, req)
}

func checkPeerPorts(all []facts.Peer, _ facts.Facts) hp.Result {
	var wrong []string
	tried := 0
	for _, p := range all {
		tried += p.Out.Tried + p.In.Tried
		for _, b := range p.Out.Blocked {
			wrong = append(wrong, fmt.Sprintf("this host does not reach %s at %s (%s)", p.Address, b.PortKey, b.Reason))
		}
		for _, b := range p.In.Blocked {
			wrong = append(wrong, fmt.Sprintf("%s does not reach this host at %s (%s)", p.Address, b.PortKey, b.Reason))
		}
	}
	return resultOfFindings(hp.Fail, wrong, fmt.Sprintf("%d connections tried, all open", tried), "open these ports in the packet filters of both hosts and between them")
}

func checkPeerPackets(all []facts.Peer, _ facts.Facts) hp.Result {
	var wrong []string
	tried := 0
	report := func(from, to string, r facts.Reachability) {
		if r.LargestPacket == 0 {
			return // not tried, because no UDP port was open
		}
		tried = max(tried, r.FullPacket)
		if r.LargestPacket < r.FullPacket {
			largest := "not even small ones do"
			if r.LargestPacket > 0 {
				largest = fmt.Sprintf("%d do", r.LargestPacket)
			}
			wrong = append(wrong, fmt.Sprintf("packets of %d bytes do not pass from %s to %s; %s", r.FullPacket, from, to, largest))
		}
	}
	for _, p := range all {
		report("this host", p.Address, p.Out)
		report(p.Address, "this host", p.In)
	}
	if tried == 0 && len(wrong) == 0 {
		return hp.Undetermined("not tried, because no free UDP port was open")
	}
	return resultOfFindings(hp.Fail, wrong, fmt.Sprintf("%d bytes pass unfragmented in both directions", tried),
		"set the MTU of both hosts' interfaces to the size that passes (ip link set dev IFACE mtu SIZE), or fix the network between them")
}

func checkPeerClocks(all []facts.Peer, _ facts.Facts) hp.Result {
	state, most := hp.Warn, time.Duration(0)
	var wrong []string
	for _, p := range all {
		off := p.Offset.Abs()
		most = max(most, off)
		if off < clockWarnLimit {
			continue
		}
		if off > clockFailLimit {
			state = hp.Fail
		}
		side := "ahead of"
		if p.Offset < 0 {
			side = "behind"
		}
		wrong = append(wrong, fmt.Sprintf("this host's clock is %s %s that of %s", off.Round(time.Second), side, p.Address))
	}
	return resultOfFindings(state, wrong, "at most "+most.Round(time.Millisecond).String()+" apart", "synchronize the clocks of both hosts with the same time source: sudo timedatectl set-ntp true")
}

func checkPeerRoundTrip(all []facts.Peer, _ facts.Facts) hp.Result {
	var wrong []string
	most := time.Duration(0)
	for _, p := range all {
		most = max(most, p.RTT)
		if p.RTT > rttWarnLimit {
			wrong = append(wrong, fmt.Sprintf("round trip to %s takes %s", p.Address, p.RTT.Round(100*time.Microsecond)))
		}
	}
	return resultOfFindings(hp.Warn, wrong, "at most "+most.Round(10*time.Microsecond).String(), "place all controllers in one location; workers can be farther away")
}
