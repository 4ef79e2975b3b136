package checks

import (
	"fmt"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// onlineChecks returns the checks of name servers, online sources and the node port
// range.
func onlineChecks() []hp.Check {
	return []hp.Check{
		{ID: "dns-answers", Group: "Network", Title: "Name server responses", Severity: hp.Warn,
			Expected:  "a response from each name server within 500 ms, even \"no such name\"",
			Rationale: "with a server that drops packets, every lookup takes five seconds or more (resolv.conf's timeout): pulls, logins and starts take minutes.",
			Run:       hp.RequireFact(facts.FactNetwork, checkDNSAnswers)},
		{ID: "dns-wildcard", Group: "Network", Title: "Wildcard DNS", Severity: hp.Warn,
			Expected:  "no address for a name that does not exist, with the search domains of /etc/resolv.conf",
			Rationale: "pods also look up service names with these domains, and would reach the wildcard's address instead (Embedded Cluster does not allow it).",
			Run:       hp.RequireFact(facts.FactLookup+":"+unusedHostName, checkDNSWildcard)},
		{ID: "sources", Group: "Network", Title: "Online sources", Severity: hp.Fail,
			Expected:  "a response from each source that the install fetches from, with a certificate that this host trusts",
			Rationale: "otherwise the install fails halfway.",
			Run:       checkSources},
		{ID: "node-ports", Group: "Network", Title: "Node port range", Severity: hp.Warn,
			Expected:  "net.ipv4.ip_local_port_range outside spec.network.nodePortRange",
			Rationale: "outgoing connections use random ports of that range, and a service with the same node port cannot be reached.",
			Run:       hp.RequireFact(facts.FactSettings, hp.RequireFact(facts.FactNetwork, checkNodePortRange))},
	}
}

// unusedHostName is a name that no machine has, without dots so that the search
// domains are tried.
const unusedHostName = "plinth-preflight-of-no-machine"

// networkLookups returns the names to resolve besides the host's own.
func networkLookups() []string { return []string{"localhost", unusedHostName} }

func checkDNSAnswers(f facts.Facts, _ hp.Requirements) hp.Result {
	var all []hp.Result
	const fix = "set another server in /etc/resolv.conf, or allow UDP and TCP port 53 to this one; on an air-gapped host, a server that refuses queries immediately is enough"
	for _, s := range f.Network.Servers {
		switch {
		case s.Error != "":
			all = append(all, hp.Warned(fix, "%s: %s", s.Address, s.Error))
		case s.TookMS >= 500:
			all = append(all, hp.Warned(fix, "%s responds after %d ms", s.Address, s.TookMS))
		default:
			all = append(all, hp.Passed("%s responds in %d ms", s.Address, s.TookMS))
		}
	}
	if all == nil {
		return hp.Skip("nameserver", "there is no name server")
	}
	return hp.WorstResult(all)
}

func checkDNSWildcard(f facts.Facts, _ hp.Requirements) hp.Result {
	l, ok := f.Lookup(unusedHostName)
	switch {
	case !ok:
		return hp.Undetermined("no test name was looked up")
	case len(l.Addresses) > 0:
		return hp.Warned("remove the wildcard record from DNS, or its domain from the search line of /etc/resolv.conf", "%s resolves to %s (search domains: %s)", l.Name, formatAddresses(l.Addresses), joinOrNone(f.Network.Search))
	case strings.Contains(l.Error, "connection refused"): // as on a host without internet
		return hp.Skip("dns-answers", "the name server refuses queries")
	case l.Error != "" && l.Error != "no such name":
		return hp.Undetermined(l.Error)
	}
	return hp.Passed("none")
}

func checkSources(f facts.Facts, req hp.Requirements) hp.Result {
	if n := len(req.MissingBlobs); n > 0 {
		some, more := req.MissingBlobs[:min(n, 3)], ""
		if n > len(some) {
			more = fmt.Sprintf("; and %d more", n-len(some))
		}
		return hp.Failed("ask the publisher to complete the source, or use another --source", "content that is not in the bundle is not available: %s%s", strings.Join(some, "; "), more)
	}
	if len(req.Sources) == 0 {
		return hp.Skip("install", "nothing is fetched from the internet")
	}
	var all []hp.Result
	for _, url := range req.Sources {
		why := f.UnknownReason(facts.FactSource + ":" + url)
		for _, s := range f.Sources {
			switch {
			case s.URL != url:
			case s.Error != "":
				all = append(all, hp.Failed("curl -v "+url+" shows details; allow this host to reach it, set a proxy in spec.proxy, or use a bundle that contains everything", "%s: %s", url, s.Error))
			default:
				all = append(all, hp.Passed("%s responds in %d ms", url, s.TookMS))
			}
		}
		if why != "" {
			all = append(all, hp.Undetermined(url+": "+why))
		}
	}
	return hp.WorstResult(all)
}

func checkNodePortRange(f facts.Facts, req hp.Requirements) hp.Result {
	first, last := req.NodePorts[0], req.NodePorts[1]
	if last == 0 {
		return hp.Skip("install", "the Installer sets no range")
	}
	var low, high int
	local := f.Settings.Sysctls["net.ipv4.ip_local_port_range"]
	if _, err := fmt.Sscan(local, &low, &high); err != nil {
		return hp.Undetermined("net.ipv4.ip_local_port_range is not two numbers")
	}
	if low <= last && high >= first {
		return hp.Warned(fmt.Sprintf("echo 'net.ipv4.ip_local_port_range = %d 65535' | sudo tee -a /etc/sysctl.d/91-plinth-host.conf && sudo sysctl --system", max(last+1, 32768)),
			"outgoing connections use %s, services use %d-%d", strings.ReplaceAll(local, " ", "-"), first, last)
	}
	var inUse []string
	for _, port := range f.Network.Listening {
		if port >= first && port <= last {
			inUse = append(inUse, fmt.Sprint(port))
		}
	}
	return hp.Passed("%d-%d; ports in use: %s", first, last, joinOrNone(inUse))
}
