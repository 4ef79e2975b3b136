package facts

// FilterChain is one chain of the packet filter that can refuse packets of IPv4.
type FilterChain struct {
	Table  string       `json:"table"`            // as nft names it, "inet filter"; of iptables, "iptables filter" or "iptables-legacy raw"
	Name   string       `json:"chain"`            // INPUT
	Hook   string       `json:"hook,omitempty"`   // prerouting, input, forward, output or postrouting; empty for a chain that others jump to
	Policy string       `json:"policy,omitempty"` // accept or drop: what happens to packets that no rule of a chain with a hook decides
	Rules  []FilterRule `json:"rules,omitempty"`
}

// FilterRule is one rule of a chain.
type FilterRule struct {
	Text    string        `json:"text"`              // in the notation of its tool, without counters
	Matches []FilterMatch `json:"matches,omitempty"` // the rule applies to packets that match all
	Verdict string        `json:"verdict,omitempty"` // accept, drop (also: reject), return, jump, goto, unknown; empty if it decides nothing
	Target  string        `json:"target,omitempty"`  // chain of a jump or goto
}

// FilterMatch is one condition of a rule.
type FilterMatch struct {
	Key    string   `json:"key"` // one of the Match names
	Not    bool     `json:"not,omitempty"`
	Values []string `json:"values,omitempty"` // one of them is enough; "22-80" is a range
}

// Names of conditions, as used in FilterMatch.Key.
const (
	MatchSource          = "saddr" // addresses, networks and ranges
	MatchDestination     = "daddr"
	MatchDestinationType = "daddr-type" // local, unicast, broadcast, multicast
	MatchPacketType      = "pkttype"    // host (also: unicast), broadcast, multicast
	MatchProtocol        = "protocol"   // tcp, udp, icmp or a number
	MatchFamily          = "family"     // ipv4 or ipv6, ip or ip6
	MatchSourcePort      = "sport"
	MatchPort            = "dport"
	MatchIn              = "iif" // interfaces; a * at the end stands for any characters
	MatchOut             = "oif"
	MatchState           = "state"   // of the connection: new, established, related, invalid, untracked
	MatchStatus          = "status"  // of the connection: dnat
	MatchFlags           = "flags"   // of TCP: "fin,syn,rst,ack=syn", those that are compared and those that are set
	MatchNever           = "never"   // a condition that packets of a cluster do not meet
	MatchUnknown         = "unknown" // a condition that is not understood
)
