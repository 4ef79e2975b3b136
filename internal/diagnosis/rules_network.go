package diagnosis

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
)

// podBridge is the interface of kube-router to which the pods of a node are connected.
const podBridge = "kube-bridge"

// Errors of requests through a proxy. insideProxied matches those to addresses that are not on the internet.
const (
	proxyFails    = `proxyconnect tcp|Proxy Authentication Required`
	insideProxied = `https?://(10\.|127\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|localhost|[^/\s"]*\.(svc|local)[:/])\S*"?: (proxyconnect tcp|Proxy Authentication Required)`
)

func networkRules() []Rule {
	return []Rule{
		{ID: "link-down", Area: areaNetwork, Culprit: "the network interface of the node is down", Symptom: "the host is not reachable, its node is NotReady",
			Fix: "check the cable or the virtual switch; sudo ip link set INTERFACE up", Find: findLinkDown},
		{ID: "no-default-route", Area: areaNetwork, Culprit: "this host has no default route", Symptom: "network is unreachable; k0s finds no address",
			Fix: "add one, permanently in the configuration of the network: sudo ip route add default via GATEWAY", Find: findNoDefaultRoute,
			Logs: []LogPattern{{Source: LogK0s, Match: `unable to select an IP from default routes`}}},
		{ID: "forwarding-off", Area: areaNetwork, Culprit: "this host does not forward packets", Symptom: "pods reach neither services nor other hosts",
			Fix: "sudo sysctl -w net.ipv4.ip_forward=1, and remove the line that turns it off from /etc/sysctl.d",
			Find: func(s Snapshot) (found []Evidence) {
				if n, ok := s.sysctl("net.ipv4.ip_forward"); ok && n == 0 && s.K0s.Load == "loaded" {
					found = append(found, Evidence{Text: "net.ipv4.ip_forward is 0"})
				}
				return found
			}},
		{ID: "mtu-mismatch", Area: areaNetwork, Culprit: "pods send larger packets than the network of the host carries",
			Symptom: "small requests work, large ones hang",
			Fix:     "restart kube-router, which reads the MTU: sudo plinth kubectl rollout restart daemonset/kube-router -n kube-system", Find: findMTUMismatch},
		{ID: "peer-unreachable", Area: areaNetwork, Culprit: "another controller cannot be reached",
			Symptom: "etcd loses its leader; the API is slow or does not answer",
			Fix:     "start the other controller, or open 2380/tcp, 6443/tcp and 9444/tcp between the controllers (curl -kvm 3 https://HOST:9444 shows whether it connects; the same with the other ports)",
			Logs: []LogPattern{{Source: LogK0s,
				Match: `dial tcp \S+:2380: (connect: no route to host|connect: connection (refused|timed out)|i/o timeout)|lost (the )?TCP streaming connection`, Min: 3, Level: LevelWarning}}},
		{ID: "proxy-in-the-way", Area: areaNetwork, Culprit: "requests inside the cluster go to a proxy", Symptom: "proxyconnect errors, 403 or 503 from a proxy",
			Fix: "add the addresses of the nodes, both networks of the cluster (10.244.0.0/16, 10.96.0.0/12), .svc and .cluster.local to no_proxy " +
				"(spec.proxy.noProxy, /etc/environment)",
			Logs: []LogPattern{{Source: LogK0s, Match: insideProxied}, {Source: LogPods, Match: insideProxied}},
			Find: func(s Snapshot) []Evidence { return checkResults(s, "proxy") }},
		{ID: "proxy-not-answering", Area: areaNetwork, Culprit: "the proxy does not answer, or refuses", Symptom: "images are not pulled, vendor's servers are not reached: proxyconnect",
			Fix:  "check the proxy of spec.proxy and in /etc/environment from this host: curl -x PROXY https://replicated.app",
			Logs: []LogPattern{{Source: LogK0s, Match: proxyFails, Unless: insideProxied}, {Source: LogPods, Match: proxyFails, Unless: insideProxied}}},
		{ID: "kubelet-unreachable", Area: areaNetwork, Culprit: "the API server does not reach the kubelet of a node",
			Symptom: "kubectl logs and exec fail for pods of that node: error dialing backend",
			Fix:     "open 10250/tcp from the controllers to all nodes (curl -kvm 3 https://NODE:10250 on a controller shows whether it connects); on that node: sudo plinth diagnose",
			Logs: []LogPattern{{Source: LogK0s,
				Match: `error dialing backend: dial tcp \S+:10250: (i/o timeout|connect: (no route to host|connection timed out|connection refused))`}}},
	}
}

func findLinkDown(s Snapshot) (found []Evidence) {
	if !s.Recorded.Address.IsValid() {
		return nil
	}
	for _, i := range s.Host.Network.Interfaces {
		if !i.Up && slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Addr() == s.Recorded.Address }) {
			found = append(found, Evidence{Text: fmt.Sprintf("%s, with the address %s of the node, is down", i.Name, s.Recorded.Address)})
		}
	}
	return found
}

func findNoDefaultRoute(s Snapshot) []Evidence {
	n := s.Host.Network
	if len(n.Interfaces) == 0 || s.Host.UnknownReason(facts.FactNetwork) != "" {
		return nil
	}
	if slices.ContainsFunc(n.DefaultRoutes(), func(r facts.Route) bool { return r.Destination.Addr().Is4() }) {
		return nil
	}
	return []Evidence{{Text: "the table of routes has no default route of IPv4", Warning: !s.hostImpaired()}}
}

func findMTUMismatch(s Snapshot) []Evidence {
	host := s.Host.Network.MTU()
	for _, i := range s.Host.Network.Interfaces {
		if i.Name == podBridge && host > 0 && i.MTU > host {
			return []Evidence{{Text: fmt.Sprintf("the MTU of %s, where the pods are, is %d; that of %s is %d", podBridge, i.MTU, s.Host.Network.PacketLink().Name, host)}}
		}
	}
	return nil
}

// packetFilterUnits are the services that load rules of the packet filter.
var packetFilterUnits = []string{"firewalld.service", "nftables.service", "iptables.service", "ufw.service", "netfilter-persistent.service"}

// settleTime is how long kube-proxy may take after a start of k0s to write its rules.
const settleTime = 3 * time.Minute

func packetFilterRules() []Rule {
	restart := "restart k0s, which writes its rules again: sudo systemctl restart k0scontroller (worker: k0sworker)"
	return []Rule{
		{ID: "packet-filter-flushed", Area: areaNetwork, Culprit: "the rules of Kubernetes are missing in the packet filter",
			Symptom: "services do not answer on this host, pods have no network",
			Fix:     restart + "\nfind what removes them: a firewall service, a configuration tool, nft flush ruleset in /etc/nftables.conf", Find: findFlushedFilter},
		{ID: "packet-filter-reloaded", Area: areaNetwork, Culprit: "a firewall service was started after k0s",
			Symptom: "services or pods lost their network when the firewall was reloaded", Warning: true,
			Fix: restart, Find: findReloadedFilter},
		{ID: "packet-filter-drops", Area: areaNetwork, Culprit: "the packet filter of this host drops packets of the cluster",
			Symptom: "nodes, services or pods do not reach each other",
			Fix:     "sudo plinth preflight --quick prints the rules that drop them, and the commands that let them through", Find: func(s Snapshot) []Evidence {
				return checkResults(s, "packet-filter", "firewalld", "ufw", "iptables-tables")
			}},
		{ID: "conntrack-full", Area: areaNetwork, Culprit: "the table of connections is full", Symptom: "new connections hang or are dropped at random",
			Fix:  "sudo sysctl -w net.netfilter.nf_conntrack_max=1048576, and the same in a file of /etc/sysctl.d; find the program with the most connections: sudo ss -Htnp | grep -o '\"[^\"]*\",pid=[0-9]*' | sort | uniq -c | sort -n | tail",
			Logs: []LogPattern{{Source: LogKernel, Match: `nf_conntrack: .*table full, dropping packet`}},
			Find: func(s Snapshot) (found []Evidence) {
				used, ok1 := s.sysctl("net.netfilter.nf_conntrack_count")
				most, ok2 := s.sysctl("net.netfilter.nf_conntrack_max")
				if ok1 && ok2 && most > 0 && used >= most*95/100 {
					found = append(found, Evidence{Text: fmt.Sprintf("%d of %d entries are in use", used, most)})
				}
				return found
			}},
		{ID: "neighbor-table-full", Area: areaNetwork, Culprit: "the table of neighbors (ARP) is full", Symptom: "some hosts or pods cannot be reached at random",
			Fix:  "sudo sysctl -w net.ipv4.neigh.default.gc_thresh2=8192 net.ipv4.neigh.default.gc_thresh3=16384, and the same in a file of /etc/sysctl.d",
			Logs: []LogPattern{{Source: LogKernel, Match: `[Nn]eighbou?r table overflow|neighbour: \S+: .*overflow`}}},
	}
}

func findFlushedFilter(s Snapshot) []Evidence {
	if !s.Install.Installed || !s.K0s.Running() || s.since(s.K0s.Since) < settleTime || s.Host.UnknownReason(facts.FactIptables) != "" {
		return nil
	}
	if slices.ContainsFunc(s.Host.Traces, func(t facts.Trace) bool { return t.Software == facts.KubeProxy }) {
		return nil
	}
	return []Evidence{{Text: fmt.Sprintf("k0s has run for %s, but no rule of Kubernetes (KUBE-…) is in the packet filter", s.since(s.K0s.Since).Round(time.Minute))}}
}

func findReloadedFilter(s Snapshot) (found []Evidence) {
	for _, name := range packetFilterUnits {
		if u, ok := s.unit(name); ok && u.Running() && s.K0s.Running() && !s.K0s.Since.IsZero() && u.Since.After(s.K0s.Since) {
			found = append(found, Evidence{Text: fmt.Sprintf("%s was started at %s, k0s at %s", u.Name, u.Since.UTC().Format(time.RFC3339), s.K0s.Since.UTC().Format(time.RFC3339))})
		}
	}
	return found
}

func dnsRules() []Rule {
	return []Rule{
		{ID: "dns-loop", Area: areaNetwork, Culprit: "the name servers of pods forward to themselves", Symptom: "CoreDNS crashes: Loop detected",
			Fix:  "write name servers that are not on loopback to /etc/resolv.conf (or systemd-resolved), then: sudo plinth kubectl rollout restart deployment/coredns -n kube-system",
			Logs: []LogPattern{{Source: LogPods, Match: `Loop \(.*\) detected for zone`}}},
		{ID: "name-servers-silent", Area: areaNetwork, Culprit: "no name server of this host answers", Symptom: "names are not resolved, on the host and in pods", Warning: true,
			Fix: "correct the name servers in /etc/resolv.conf; open 53/udp and 53/tcp to them", Find: findSilentNameServers},
		{ID: "dns-upstream-slow", Area: areaNetwork, Culprit: "the name servers that CoreDNS asks do not answer",
			Symptom: "names outside the cluster are not resolved in pods",
			Fix:     "open 53/udp and 53/tcp from the nodes to their name servers, or correct /etc/resolv.conf",
			Logs:    []LogPattern{{Source: LogPods, Match: `plugin/errors: .*(:53: i/o timeout|:53: connect: connection refused|:53: no route to host)`, Min: 3}}},
		{ID: "localhost-not-resolved", Area: areaNetwork, Culprit: "localhost is not an address of this host", Symptom: "k0s does not reach its own services",
			Fix: "echo '127.0.0.1 localhost' | sudo tee -a /etc/hosts",
			Find: func(s Snapshot) (found []Evidence) {
				l, ok := s.Host.Lookup("localhost")
				if ok && (l.Error != "" || !slices.ContainsFunc(l.Addresses, netip.Addr.IsLoopback)) {
					found = append(found, Evidence{Text: "localhost resolves to " + fmt.Sprint(l.Addresses) + " " + l.Error})
				}
				return found
			}},
	}
}

func findSilentNameServers(s Snapshot) (found []Evidence) {
	for _, n := range s.Host.Network.Servers {
		if n.Error == "" {
			return nil
		}
		found = append(found, Evidence{Text: fmt.Sprintf("%s: %s", n.Address, n.Error)})
	}
	return found
}
