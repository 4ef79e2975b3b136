package peers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// The limits. etcd's members expect a heartbeat every 100 ms and elect a new leader
// after 1 s (its tuning guide: the round trip should be a tenth of the heartbeat);
// new certificates are not valid yet for a clock that is behind.
const (
	rttWarns   = 10 * time.Millisecond
	clockWarns = 2 * time.Second
	clockFails = time.Minute
)

// PeerChecks returns the checks between this host and others: that they reach each
// other at every port in both directions, that full packets pass, that their clocks
// agree, and that each has its own identity.
func Checks() []hp.Check {
	const group = "Other hosts"
	all := []hp.Check{
		{ID: "peer-answer", Title: "Other hosts respond", Severity: hp.Fail, Wants: "each host responds and knows the code",
			Why: "a host that does not respond cannot form a cluster with this one.", Run: answers},
		{ID: "peer-identity", Title: "Unique hosts", Severity: hp.Fail, Wants: "a unique name, machine id and addresses for each host",
			Why: "a second node of the same name replaces the first one; cloned machines share their machine id.", Run: answered(identity)},
		{ID: "peer-ports", Title: "Ports in both directions", Severity: hp.Fail, Wants: "every port of a node reachable over TCP in both directions, and 10250 over UDP too",
			Why: "nodes, routes and the API need each of them, and pods look up names over UDP; a filter that blocks one direction shows only minutes after a join.", Run: answered(ports)},
		{ID: "peer-packet", Title: "Full packets", Severity: hp.Fail, Wants: "a packet of the interface's MTU passes unfragmented in both directions",
			Why: "packets of pods are encapsulated in others; if full packets are lost, small requests work and large responses hang.", Run: answered(packets)},
		{ID: "peer-clock", Title: "Clock difference", Severity: hp.Fail, Wants: "at most 1 min apart; warns from 2 s",
			Why: "new certificates and tokens are not valid yet for a clock that is behind.", Run: answered(clocks)},
		{ID: "peer-distance", Title: "Round-trip time", Severity: hp.Warn, Wants: "at most 10 ms between controllers",
			Why: "etcd's members lose their leader when heartbeats are late (etcd's tuning guide).", Roles: []hp.Role{hp.Controller}, Run: answered(distance)},
		{ID: "peer-alike", Title: "Similar hosts", Severity: hp.Warn, Wants: "the same architecture, distribution, control groups, SELinux mode, time zone and MTU as on the other hosts",
			Why: "pods behave differently on different hosts: images do not start, files cannot be read, large packets are lost, logs cannot be compared.", Run: answered(alike)},
	}
	for i := range all {
		all[i].Group, all[i].Verbs = group, []hp.Verb{hp.Install, hp.Join}
	}
	return all
}

// skipWithoutPeers returns a skipped result that says why no other host was checked.
func none(req hp.Want) hp.Result {
	if req.Verb == hp.Join {
		return hp.Skip("install", "this host is already a node, or no other controller is ready")
	}
	return hp.Skip("user", "no other hosts were given (--peers)")
}

// runForReachablePeers returns a check that calls run with the peers that responded.
// The check peer-answer reports the others.
func answered(run func([]facts.Peer, facts.Facts) hp.Result) func(facts.Facts, hp.Want) hp.Result {
	return func(f facts.Facts, req hp.Want) hp.Result {
		if len(f.Peers) == 0 {
			return none(req)
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
func judged(state hp.State, wrong []string, good, fix string) hp.Result {
	if len(wrong) == 0 {
		return hp.Result{State: hp.Pass, Found: good}
	}
	return hp.Result{State: state, Found: strings.Join(wrong, "; "), Fix: fix}
}

// peerAddresses returns the addresses of all, separated by commas.
func names(all []facts.Peer) string {
	var out []string
	for _, p := range all {
		out = append(out, p.Address)
	}
	return strings.Join(out, ", ")
}

// checkPeersAnswer reports the peers that did not respond. A controller that has
// just joined and whose agent does not run yet is only a warning for a joining host.
func answers(f facts.Facts, req hp.Want) hp.Result {
	if len(f.Peers) == 0 {
		return none(req)
	}
	state, fix := hp.Warn, "run on that host: sudo plinth preflight --listen (it needs port 9444/tcp and prints the code)"
	if req.Verb == hp.Join {
		fix = "allow port 9444/tcp to that host, and run there: systemctl status plinth-agent"
	}
	var wrong []string
	for _, p := range f.Peers {
		if p.Error != "" {
			wrong = append(wrong, p.Address+": "+p.Error)
		}
		if p.Error != "" && (req.Verb != hp.Join || !p.Absent) {
			state = hp.Fail
		}
	}
	return judged(state, wrong, hp.Count(len(f.Peers), "host")+": "+names(f.Peers), fix)
}

func alike(all []facts.Peer, f facts.Facts) hp.Result {
	var wrong []string
	for _, p := range all {
		for _, d := range f.Traits().Differences(p.Traits) {
			wrong = append(wrong, fmt.Sprintf("%s: %s here, %s on %s", d.What, d.Here, d.Else, p.Address))
		}
	}
	return judged(hp.Warn, wrong, "no difference", "configure this host like the others; intended differences can stay")
}

func identity(all []facts.Peer, f facts.Facts) hp.Result {
	var wrong []string
	for _, p := range all {
		if strings.EqualFold(p.Hostname, f.Hostname) {
			wrong = append(wrong, fmt.Sprintf("%s has this host's name, %s", p.Address, f.Hostname))
		}
		if p.MachineID != "" && p.MachineID == f.MachineID {
			wrong = append(wrong, fmt.Sprintf("%s has this host's machine id", p.Address))
		}
		for _, a := range f.Network.Own() {
			if slices.Contains(p.Addresses, a) {
				wrong = append(wrong, fmt.Sprintf("%s also has this host's address %s", p.Address, a))
			}
		}
	}
	return judged(hp.Fail, wrong, "all differ from this host",
		"give each host a unique name (sudo hostnamectl set-hostname NAME) and a unique machine id: sudo rm /etc/machine-id && sudo systemd-machine-id-setup")
}

func ports(all []facts.Peer, _ facts.Facts) hp.Result {
	var wrong []string
	tried := 0
	for _, p := range all {
		tried += p.Out.Tried + p.In.Tried
		for _, b := range p.Out.Blocked {
			wrong = append(wrong, fmt.Sprintf("this host does not reach %s at %s (%s)", p.Address, b.PortKey, b.Why))
		}
		for _, b := range p.In.Blocked {
			wrong = append(wrong, fmt.Sprintf("%s does not reach this host at %s (%s)", p.Address, b.PortKey, b.Why))
		}
	}
	return judged(hp.Fail, wrong, fmt.Sprintf("%d connections tried, all open", tried), "open these ports in the packet filters of both hosts and between them")
}

func packets(all []facts.Peer, _ facts.Facts) hp.Result {
	var wrong []string
	tried := 0
	report := func(from, to string, r facts.Reach) {
		if r.Packet == 0 {
			return // not tried, because no UDP port was open
		}
		tried = max(tried, r.Full)
		if r.Packet < r.Full {
			largest := "not even small ones do"
			if r.Packet > 0 {
				largest = fmt.Sprintf("%d do", r.Packet)
			}
			wrong = append(wrong, fmt.Sprintf("packets of %d bytes do not pass from %s to %s; %s", r.Full, from, to, largest))
		}
	}
	for _, p := range all {
		report("this host", p.Address, p.Out)
		report(p.Address, "this host", p.In)
	}
	if tried == 0 && len(wrong) == 0 {
		return hp.CannotTell("not tried, because no free UDP port was open")
	}
	return judged(hp.Fail, wrong, fmt.Sprintf("%d bytes pass unfragmented in both directions", tried),
		"set the MTU of both hosts' interfaces to the size that passes (ip link set dev IFACE mtu SIZE), or fix the network between them")
}

func clocks(all []facts.Peer, _ facts.Facts) hp.Result {
	state, most := hp.Warn, time.Duration(0)
	var wrong []string
	for _, p := range all {
		off := p.Offset.Abs()
		most = max(most, off)
		if off < clockWarns {
			continue
		}
		if off > clockFails {
			state = hp.Fail
		}
		side := "ahead of"
		if p.Offset < 0 {
			side = "behind"
		}
		wrong = append(wrong, fmt.Sprintf("this host's clock is %s %s that of %s", off.Round(time.Second), side, p.Address))
	}
	return judged(state, wrong, "at most "+most.Round(time.Millisecond).String()+" apart", "synchronize the clocks of both hosts with the same time source: sudo timedatectl set-ntp true")
}

func distance(all []facts.Peer, _ facts.Facts) hp.Result {
	var wrong []string
	most := time.Duration(0)
	for _, p := range all {
		most = max(most, p.RTT)
		if p.RTT > rttWarns {
			wrong = append(wrong, fmt.Sprintf("round trip to %s takes %s", p.Address, p.RTT.Round(100*time.Microsecond)))
		}
	}
	return judged(hp.Warn, wrong, "at most "+most.Round(10*time.Microsecond).String(), "place all controllers in one location; workers can be farther away")
}
