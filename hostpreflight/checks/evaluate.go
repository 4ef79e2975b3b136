package checks

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// packet is one packet on its way through the packet filter.
type packet struct {
	hook           string // input, forward or output
	in, out        string // interfaces; "" for none
	source, target netip.Addr
	protocol       string
	sport, port    int
	state          string // of its connection: new or established
	translated     bool   // kube-proxy has changed its destination
	local          bool   // its destination is an address of this host
}

// answer is whether something holds.
type answer int

// The answers, from the least to the most.
const (
	no answer = iota
	maybe
	yes
)

// verdict is what chains may do with a packet. No rule in it means that a possibility
// is excluded.
type verdict struct {
	accepted bool   // a rule may accept it
	returned bool   // no rule may decide
	dropped  string // text of a rule that may drop it
}

// chainKey identifies a chain.
type chainKey struct{ table, name string }

// keyOf returns the key of c.
func keyOf(c facts.FilterChain) chainKey { return chainKey{c.Table, c.Name} }

// indexChains returns the chains by their keys: hosts with containers have thousands of them.
func indexChains(all []facts.FilterChain) map[chainKey]facts.FilterChain {
	index := map[chainKey]facts.FilterChain{}
	for _, c := range all {
		if _, ok := index[keyOf(c)]; !ok {
			index[keyOf(c)] = c
		}
	}
	return index
}

// blocked returns whether base, a chain with a hook, drops p, and the rule that does.
func blocked(all map[chainKey]facts.FilterChain, base facts.FilterChain, p packet) (answer, string) {
	v := walker{all, p, map[chainKey]verdict{}}.walk(base)
	if v.returned {
		if base.Policy != "drop" {
			v.accepted = true
		} else if v.dropped == "" {
			v.dropped = "policy drop"
		}
	}
	switch {
	case v.dropped == "":
		return no, ""
	case v.accepted:
		return maybe, v.dropped
	}
	return yes, v.dropped
}

// walker follows one packet through chains.
type walker struct {
	all  map[chainKey]facts.FilterChain
	p    packet
	seen map[chainKey]verdict
}

// walk returns what may happen to the packet in chain c and those that it jumps to.
// Each chain is followed once; the kernel allows no loops.
func (w walker) walk(c facts.FilterChain) verdict {
	key := keyOf(c)
	v, known := w.seen[key]
	if !known {
		w.seen[key] = verdict{returned: true}
		v = w.follow(c)
		w.seen[key] = v
	}
	return v
}

// follow returns what may happen to the packet in chain c.
func (w walker) follow(c facts.FilterChain) verdict {
	var v verdict
	for _, r := range c.Rules {
		match := w.p.matches(r)
		if match == no {
			continue
		}
		continues := match == maybe
		switch r.Verdict {
		case "accept":
			v.accepted = true
		case "drop":
			v.dropped = cmp.Or(v.dropped, cmp.Or(r.Text, "drop"))
		case "return":
			v.returned = true
		case "jump", "goto":
			sub := w.walk(w.chain(c.Table, r.Target))
			v.accepted = v.accepted || sub.accepted
			v.dropped = cmp.Or(v.dropped, sub.dropped)
			if r.Verdict == "goto" { // what the other chain does not decide, the caller of this one does
				v.returned = v.returned || sub.returned
			} else {
				continues = continues || sub.returned
			}
		case "unknown":
			v.accepted, v.dropped = true, cmp.Or(v.dropped, r.Text)
		default:
			continues = true
		}
		if !continues {
			return v
		}
	}
	v.returned = true
	return v
}

// chain returns the chain of a table, or an empty one.
func (w walker) chain(table, name string) facts.FilterChain {
	c, ok := w.all[chainKey{table, name}]
	if !ok {
		return facts.FilterChain{Table: table, Name: name}
	}
	return c
}

// matches reports whether rule r applies to p.
func (p packet) matches(r facts.FilterRule) answer {
	all := yes
	for _, m := range r.Matches {
		all = min(all, p.meets(m))
	}
	return all
}

// meets reports whether p meets condition m.
func (p packet) meets(m facts.FilterMatch) answer {
	switch m.Key {
	case facts.MatchNever:
		return no
	case facts.MatchUnknown:
		return maybe
	}
	found := no
	for _, v := range m.Values {
		found = max(found, p.has(m.Key, v))
	}
	if m.Not {
		return yes - found
	}
	return found
}

// has reports whether the property key of p is, or is in, value.
func (p packet) has(key, value string) answer {
	switch key {
	case facts.MatchSource:
		return inNetwork(p.source, value)
	case facts.MatchDestination:
		return inNetwork(p.target, value)
	case facts.MatchDestinationType:
		return is(value == "local" && p.local || value == "unicast" && !p.local)
	case facts.MatchPacketType:
		return is(value == "host" || value == "unicast")
	case facts.MatchProtocol:
		number := map[string]string{"tcp": "6", "udp": "17"}[p.protocol]
		return is(value == p.protocol || value == number || value == "all" || value == "0")
	case facts.MatchFamily:
		return is(value == "ipv4" || value == "2" || value == "ip")
	case facts.MatchSourcePort:
		return inRange(p.sport, value)
	case facts.MatchPort:
		return inRange(p.port, value)
	case facts.MatchIn:
		return isInterface(p.in, value)
	case facts.MatchOut:
		return isInterface(p.out, value)
	case facts.MatchState:
		return is(value == p.state || value == "dnat" && p.translated) // iptables counts that as a state
	case facts.MatchStatus:
		if value != "dnat" {
			return maybe
		}
		return is(p.translated)
	case facts.MatchFlags:
		return p.hasFlags(value)
	}
	return maybe
}

// hasFlags reports whether exactly the flags after the equals sign are set, of those
// before it.
func (p packet) hasFlags(value string) answer {
	mask, want, _ := strings.Cut(value, "=")
	own := "syn"
	if p.state == "established" {
		own = "ack"
	}
	inMask := mask == "all" || slices.Contains(strings.Split(mask, ","), own)
	if inMask {
		return is(want == own)
	}
	return is(want == "none" || want == "0" || want == "0x0")
}

// is returns yes for true and no for false.
func is(b bool) answer {
	if b {
		return yes
	}
	return no
}

// inNetwork reports whether a is in value: an address, a network with its length or
// its mask, or a range.
func inNetwork(a netip.Addr, value string) answer {
	if from, to, isRange := strings.Cut(value, "-"); isRange {
		first, err1 := netip.ParseAddr(from)
		last, err2 := netip.ParseAddr(to)
		if err1 != nil || err2 != nil {
			return maybe
		}
		return is(first.Compare(a) <= 0 && a.Compare(last) <= 0)
	}
	if network, err := netip.ParsePrefix(value); err == nil {
		return is(network.Contains(a))
	}
	if single, err := netip.ParseAddr(value); err == nil {
		return is(single == a)
	}
	return maybe // a name, or a mask that is not a prefix
}

// inRange reports whether n is value or in the range value.
func inRange(n int, value string) answer {
	from, to, isRange := strings.Cut(value, "-")
	if !isRange {
		to = from
	}
	first, err1 := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	if err1 != nil || err2 != nil {
		return maybe // a name of a service
	}
	return is(first <= n && n <= last)
}

// isInterface reports whether name is pattern, which may end in *.
func isInterface(name, pattern string) answer {
	if start, isPrefix := strings.CutSuffix(pattern, "*"); isPrefix {
		return is(strings.HasPrefix(name, start))
	}
	return is(name == pattern)
}
