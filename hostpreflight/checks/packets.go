package checks

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/ports"
)

// podLink is the interface through which pods send and receive (kube-router's bridge).
const podLink = "kube-bridge"

// flow is packets of one kind that a node needs, and the rule that lets them through.
type flow struct {
	packet
	what string    // for users: "6443/tcp from other hosts"
	rule condition // a rule for them
}

// condition is what packets have in common, in two notations.
type condition struct{ iptables, nft string }

// and returns the condition that c and d hold.
func (c condition) and(d condition) condition {
	return condition{strings.TrimSpace(c.iptables + " " + d.iptables), strings.TrimSpace(c.nft + " " + d.nft)}
}

// inNetworks returns the condition that an address, "s" for the source or "d" for the destination,
// is in one of the networks all; without networks, it always holds.
func inNetworks(which string, all []netip.Prefix) condition {
	if len(all) == 0 {
		return condition{}
	}
	var texts []string
	for _, p := range all {
		texts = append(texts, p.String())
	}
	nft := texts[0]
	if len(texts) > 1 {
		nft = "{ " + strings.Join(texts, ", ") + " }"
	}
	return condition{"-" + which + " " + strings.Join(texts, ","), "ip " + which + "addr " + nft}
}

// toPorts returns the condition that the destination is one of the TCP ports.
func toPorts(numbers []int) condition {
	list := joinNumbers(numbers)
	return condition{"-p tcp -m multiport --dports " + list, "tcp dport { " + strings.ReplaceAll(list, ",", ", ") + " }"}
}

// flowBuilder creates the flows of one host.
type flowBuilder struct {
	link       string     // interface at which packets of other hosts arrive
	node, peer netip.Addr // this host, and another one
	pod        netip.Addr // on this host
	remotePod  netip.Addr // on another one
	pods       netip.Prefix
	nodes      []netip.Prefix // networks of other nodes; none for everyone
	all        []flow
}

// clusterFlows returns the packets that the cluster sends to, through and from this
// host. It returns none if the host has no address or the Installer no pod network;
// other checks report that.
func clusterFlows(f facts.Facts, req hp.Requirements) []flow {
	m := flowBuilder{pods: req.PodCIDR.Masked()}
	network := m.setNode(f)
	if !m.node.IsValid() || !m.pods.IsValid() || !m.pods.Addr().Is4() {
		return nil
	}
	m.peer = otherHost(f, network, m.node)
	m.nodes, _ = NodeNetworks(f, req)
	m.pod = m.pods.Addr().Next().Next()
	m.remotePod = lastAddress(m.pods).Prev()
	m.addPorts(req)
	m.addReplies()
	m.addPods(req)
	return m.all
}

// setNode sets the address of this host and the interface to other hosts, and returns its network.
func (m *flowBuilder) setNode(f facts.Facts) netip.Prefix {
	uplink := f.Network.UplinkAddresses()
	for _, i := range f.Network.Interfaces {
		for _, p := range i.Addresses {
			a := p.Addr()
			if a.Is4() && slices.Contains(uplink, a) && (!f.Network.NodeAddress.IsValid() || a == f.Network.NodeAddress) {
				m.node, m.link = a, f.Network.PacketLink().Name
				return p
			}
		}
	}
	return netip.Prefix{}
}

// otherHost returns the address of another host: a peer that was given, or one that is
// not taken in the network of this host.
func otherHost(f facts.Facts, network netip.Prefix, node netip.Addr) netip.Addr {
	for _, p := range f.Peers {
		if a, err := netip.ParseAddr(p.Address); err == nil && a.Is4() {
			return a
		}
	}
	isGateway := func(a netip.Addr) bool {
		return slices.ContainsFunc(f.Network.Routes, func(r facts.Route) bool { return r.Gateway == a })
	}
	for a := network.Masked().Addr().Next(); network.Contains(a); a = a.Next() {
		if a != node && !isGateway(a) {
			return a
		}
	}
	return node.Next() // the only address of its network
}

// lastAddress returns the last address of network.
func lastAddress(network netip.Prefix) netip.Addr {
	b := network.Addr().As4()
	for bit := network.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(b)
}

// add adds a flow of new TCP connections, from any free port.
func (m *flowBuilder) add(f flow) {
	if f.protocol == "" {
		f.protocol = "tcp"
	}
	if f.state == "" {
		f.state, f.sport = "new", 40000
	}
	f.local = f.target == m.node || f.target.IsLoopback()
	m.all = append(m.all, f)
}

// addPorts adds connections to the ports of this host, from other hosts and from the
// host itself, and to those of other hosts.
func (m *flowBuilder) addPorts(req hp.Requirements) {
	public := toPorts(scopePorts(req, ports.Outside))
	fromNodes, toNodes := inNetworks("s", m.nodes), inNetworks("d", m.nodes)
	forNodes := fromNodes.and(toPorts(scopePorts(req, ports.Cluster)))
	localhost := netip.MustParseAddr("127.0.0.1")
	for _, p := range listenPorts() {
		key, ok := p.portKey(req)
		if !ok || p.Field != "" { // its packets go through to a pod
			continue
		}
		if p.Scope >= ports.Cluster {
			rule := forNodes
			if p.Scope == ports.Outside {
				rule = public
			}
			m.add(flow{packet{hook: "input", in: m.link, source: m.peer, target: m.node, port: key.Number}, fmt.Sprintf("%d/tcp from other hosts", key.Number), rule})
		}
		const what = "packets on loopback"
		m.add(flow{packet{hook: "input", in: "lo", source: localhost, target: localhost, port: key.Number}, what, condition{"-i lo", "iif lo"}})
		m.add(flow{packet{hook: "output", out: "lo", source: localhost, target: localhost, port: key.Number}, what, condition{"-o lo", "oif lo"}})
	}
	// A join tries UDP between hosts at kubelet's port.
	kubelet := condition{fmt.Sprintf("-p udp --dport %d", ports.Kubelet), fmt.Sprintf("udp dport %d", ports.Kubelet)}
	udp := packet{hook: "input", in: m.link, source: m.peer, target: m.node, port: ports.Kubelet, protocol: "udp"}
	m.add(flow{udp, fmt.Sprintf("%d/udp from other hosts", ports.Kubelet), fromNodes.and(kubelet)})
	udp = packet{hook: "output", out: m.link, source: m.node, target: m.peer, port: ports.Kubelet, protocol: "udp"}
	m.add(flow{udp, fmt.Sprintf("%d/udp to other hosts", ports.Kubelet), toNodes.and(kubelet)})
	// A worker is reached at fewer ports than a controller, and both reach a controller.
	between := ports.Between(!req.IsWorker(), true)
	for _, number := range between {
		m.add(flow{packet{hook: "output", out: m.link, source: m.node, target: m.peer, port: number}, fmt.Sprintf("%d/tcp to other hosts", number), toNodes.and(toPorts(between))})
	}
}

// addReplies adds the packets of connections that exist.
func (m *flowBuilder) addReplies() {
	for _, f := range []flow{
		{packet: packet{hook: "input", in: m.link, source: m.peer, target: m.node}},
		{packet: packet{hook: "output", out: m.link, source: m.node, target: m.peer}},
		{packet: packet{hook: "forward", in: m.link, out: podLink, source: m.peer, target: m.pod}},
	} {
		f.what, f.rule = "replies", condition{"-m conntrack --ctstate RELATED,ESTABLISHED", "ct state established,related"}
		f.state, f.sport, f.port = "established", 443, 40000
		m.add(f)
	}
}

// addPods adds what pods send and receive. The ports of the console and of the ingress controller lead to pods.
func (m *flowBuilder) addPods(req hp.Requirements) {
	from := func(p packet, what string) { m.add(flow{p, what, inNetworks("s", []netip.Prefix{m.pods})}) }
	to := func(p packet, what string) { m.add(flow{p, what, inNetworks("d", []netip.Prefix{m.pods})}) }
	hostPorts := []int{ports.Kubelet}
	if !req.IsWorker() {
		hostPorts = append(hostPorts, ports.API)
	}
	for _, number := range hostPorts {
		what := fmt.Sprintf("%d/tcp from pods", number)
		from(packet{hook: "input", in: podLink, source: m.pod, target: m.node, port: number}, what)
		from(packet{hook: "input", in: m.link, source: m.remotePod, target: m.node, port: number}, what)
	}
	from(packet{hook: "forward", in: podLink, out: m.link, source: m.pod, target: m.peer, port: ports.API}, "pods to other hosts")
	for _, protocol := range []string{"tcp", "udp"} {
		from(packet{hook: "forward", in: podLink, out: m.link, source: m.pod, target: m.remotePod, port: 53, protocol: protocol}, "pods to pods")
		from(packet{hook: "forward", in: m.link, out: podLink, source: m.remotePod, target: m.pod, port: 53, protocol: protocol}, "pods to pods")
	}
	to(packet{hook: "forward", in: m.link, out: podLink, source: m.peer, target: m.pod, port: 8443}, "other hosts to pods")
	to(packet{hook: "output", out: podLink, source: m.node, target: m.pod, port: 8443}, "this host to pods")
	for _, p := range listenPorts() {
		if key, ok := p.portKey(req); ok && p.Field != "" {
			to(packet{hook: "forward", in: m.link, out: podLink, source: m.peer, target: m.pod, port: 8443, translated: true}, fmt.Sprintf("%d/tcp from users", key.Number))
		}
	}
}

// joinNumbers returns numbers separated by commas.
func joinNumbers(numbers []int) string {
	var all []string
	for _, n := range numbers {
		all = append(all, strconv.Itoa(n))
	}
	return strings.Join(all, ",")
}

// obstacle is a chain that drops packets of the cluster.
type obstacle struct {
	chain  facts.FilterChain
	rule   string   // the rule that drops them
	sure   bool     // it drops them all; else it depends on something that is not known
	what   []string // the packets
	accept []string // conditions of rules that let them through, in the notation of the chain's table
}

// findObstacles returns the chains for which include is true that drop packets of the
// cluster.
func findObstacles(f facts.Facts, req hp.Requirements, include func(facts.FilterChain) bool) []obstacle {
	var all []obstacle
	flows, chains := clusterFlows(f, req), indexChains(f.Filters)
	for _, c := range f.Filters {
		if c.Hook == "" || !include(c) {
			continue
		}
		for _, p := range flows {
			passes := c.Hook == p.hook || c.Hook == "prerouting" && p.in != "" || c.Hook == "postrouting" && p.out != ""
			if !passes {
				continue
			}
			drops, rule := blocked(chains, c, p.packet)
			if drops == no {
				continue
			}
			i := slices.IndexFunc(all, func(o obstacle) bool {
				return o.chain.Table == c.Table && o.chain.Name == c.Name && o.rule == rule && o.sure == (drops == yes)
			})
			if i < 0 {
				i = len(all)
				all = append(all, obstacle{chain: c, rule: rule, sure: drops == yes})
			}
			all[i].what = appendNew(all[i].what, p.what)
			all[i].accept = appendNew(all[i].accept, p.rule.in(c))
		}
	}
	return all
}

// appendNew returns all with s appended, unless it contains s.
func appendNew(all []string, s string) []string {
	if slices.Contains(all, s) {
		return all
	}
	return append(all, s)
}

// in returns the condition in the notation of chain c.
func (c condition) in(chain facts.FilterChain) string {
	if strings.HasPrefix(chain.Table, "iptables") {
		return c.iptables
	}
	return c.nft
}

// String returns the chain, its rule and the packets for users.
func (o obstacle) String() string {
	verb := "drops"
	if !o.sure {
		verb = "may drop"
	}
	return fmt.Sprintf("%s %s %s (%s) %s", o.chain.Table, o.chain.Name, verb, o.rule, strings.Join(joinPorts(o.what), ", "))
}

// joinPorts returns what with one entry for all ports that are followed by the same
// words: "22, 80/tcp from pods".
func joinPorts(what []string) (all []string) {
	numbers := map[string][]int{}
	for _, w := range what {
		number, rest, isPort := strings.Cut(w, "/tcp")
		if n, err := strconv.Atoi(number); isPort && err == nil {
			numbers["/tcp"+rest] = append(numbers["/tcp"+rest], n)
			w = "/tcp" + rest
		}
		all = appendNew(all, w)
	}
	for i, w := range all {
		if n := numbers[w]; n != nil {
			slices.Sort(n)
			all[i] = strings.ReplaceAll(joinNumbers(n), ",", ", ") + w
		}
	}
	return all
}
