// Package peers owns the checks between hosts: that they reach each other at
// every port in both directions, that full packets pass, that their clocks
// agree, and that no two are taken for one another. It refuses to ask; every
// check is a pure function of facts.
package peers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// The limits. etcd's members expect a beat every 100 ms and elect a new leader
// after 1 s (its tuning guide: the round trip should be a tenth of the beat);
// certificates that were just made are not valid yet for a clock that is behind.
const (
	rttWarns   = 10 * time.Millisecond
	clockWarns = 2 * time.Second
	clockFails = time.Minute
)

// Checks are those of other hosts.
func Checks() []hp.Check {
	const group = "Other hosts"
	all := []hp.Check{
		{ID: "peer-answer", Title: "Other hosts answer", Severity: hp.Fail, Wants: "each answers and knows the code",
			Why: "a host that cannot be asked cannot be joined.", Run: answers},
		{ID: "peer-identity", Title: "No host is taken for another", Severity: hp.Fail, Wants: "names, machine ids and addresses of its own",
			Why: "a second node of the same name takes the first one's place; cloned machines share their machine id.", Run: answered(identity)},
		{ID: "peer-ports", Title: "Ports in both directions", Severity: hp.Fail, Wants: "every port of a node reached over TCP, both ways, and 10250 over UDP, too",
			Why: "nodes, routes and the API need each of them, and pods' names are looked up by UDP; a filter that blocks one way shows only minutes after a join.", Run: answered(ports)},
		{ID: "peer-packet", Title: "Full packets", Severity: hp.Fail, Wants: "a packet of the interface's size passes whole, both ways",
			Why: "pods' packets travel inside others; where full ones are lost, small requests work and large answers hang.", Run: answered(packets)},
		{ID: "peer-clock", Title: "Clocks agree", Severity: hp.Fail, Wants: "at most 1 min apart, warns from 2 s",
			Why: "certificates and tokens that were just made are not valid yet for a clock that is behind.", Run: answered(clocks)},
		{ID: "peer-distance", Title: "Round trip", Severity: hp.Warn, Wants: "at most 10 ms between controllers",
			Why: "etcd's members lose their leader where beats are late (etcd's tuning guide).", Roles: []hp.Role{hp.Controller}, Run: answered(distance)},
		{ID: "peer-alike", Title: "Hosts are alike", Severity: hp.Warn, Wants: "architecture, distribution, control groups, SELinux, time zone and MTU as on the other hosts",
			Why: "the same pod behaves differently where hosts do: images do not start, files cannot be read, large packets are lost, logs do not fit together.", Run: answered(alike)},
	}
	for i := range all {
		all[i].Group, all[i].Verbs = group, []hp.Verb{hp.Install, hp.Join}
	}
	return all
}

// none says why no other host was asked.
func none(w hp.Want) hp.Result {
	if w.Verb == hp.Join {
		return hp.Skip("install", "this host is a node already, or no other controller is ready")
	}
	return hp.Skip("user", "no other hosts were named (--peers)")
}

// answered judges the peers that answered; that the others did not is said once.
func answered(run func([]facts.Peer, facts.Facts) hp.Result) func(facts.Facts, hp.Want) hp.Result {
	return func(f facts.Facts, w hp.Want) hp.Result {
		if len(f.Peers) == 0 {
			return none(w)
		}
		var heard []facts.Peer
		for _, p := range f.Peers {
			if p.Error == "" {
				heard = append(heard, p)
			}
		}
		if len(heard) == 0 {
			return hp.Skip("peer-answer", "no other host answered")
		}
		return run(heard, f)
	}
}

// judged is a pass, or what is wrong with its fix.
func judged(state hp.State, wrong []string, good, fix string) hp.Result {
	if len(wrong) == 0 {
		return hp.Result{State: hp.Pass, Found: good}
	}
	return hp.Result{State: state, Found: strings.Join(wrong, "; "), Fix: fix}
}

func names(all []facts.Peer) string {
	var out []string
	for _, p := range all {
		out = append(out, p.Address)
	}
	return strings.Join(out, ", ")
}

// answers wants to hear of all. A controller that has just joined, whose agent
// does not run yet, keeps no other host out.
func answers(f facts.Facts, w hp.Want) hp.Result {
	if len(f.Peers) == 0 {
		return none(w)
	}
	state, fix := hp.Warn, "on that host: sudo plinth preflight --listen; it needs port 9444/tcp and prints the code"
	if w.Verb == hp.Join {
		fix = "let port 9444/tcp through to that host; on it: systemctl status plinth-agent"
	}
	var wrong []string
	for _, p := range f.Peers {
		if p.Error != "" {
			wrong = append(wrong, p.Address+": "+p.Error)
		}
		if p.Error != "" && (w.Verb != hp.Join || !p.Absent) {
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
	return judged(hp.Warn, wrong, "no difference", "set this host up as the others are; what is meant to differ may stay")
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
				wrong = append(wrong, fmt.Sprintf("%s has this host's address %s, too", p.Address, a))
			}
		}
	}
	return judged(hp.Fail, wrong, "all differ from this host",
		"give each host a name of its own (sudo hostnamectl set-hostname NAME), and a machine id: sudo rm /etc/machine-id && sudo systemd-machine-id-setup")
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
	return judged(hp.Fail, wrong, fmt.Sprintf("%d ways tried, all open", tried), "open these ports in the packet filters of both hosts and between them")
}

func packets(all []facts.Peer, _ facts.Facts) hp.Result {
	var wrong []string
	tried := 0
	say := func(from, to string, r facts.Reach) {
		if r.Packet == 0 {
			return // no port was open to try it
		}
		tried = max(tried, r.Full)
		if r.Packet < r.Full {
			largest := "not even a small one does"
			if r.Packet > 0 {
				largest = fmt.Sprintf("%d do", r.Packet)
			}
			wrong = append(wrong, fmt.Sprintf("packets of %d bytes do not pass from %s to %s; %s", r.Full, from, to, largest))
		}
	}
	for _, p := range all {
		say("this host", p.Address, p.Out)
		say(p.Address, "this host", p.In)
	}
	if tried == 0 && len(wrong) == 0 {
		return hp.CannotTell("no free UDP port was open to try it")
	}
	return judged(hp.Fail, wrong, fmt.Sprintf("%d bytes pass whole, both ways", tried),
		"set the MTU of both hosts' interfaces to what passes, or mend the network between them: ip link set dev IFACE mtu SIZE")
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
	return judged(state, wrong, "at most "+most.Round(time.Millisecond).String()+" apart", "have both hosts' clocks set by the same source: sudo timedatectl set-ntp true")
}

func distance(all []facts.Peer, _ facts.Facts) hp.Result {
	var wrong []string
	most := time.Duration(0)
	for _, p := range all {
		most = max(most, p.RTT)
		if p.RTT > rttWarns {
			wrong = append(wrong, fmt.Sprintf("%s is %s away", p.Address, p.RTT.Round(100*time.Microsecond)))
		}
	}
	return judged(hp.Warn, wrong, "at most "+most.Round(10*time.Microsecond).String(), "keep controllers in one place; workers may be farther away")
}
