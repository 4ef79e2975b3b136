package network

import (
	"fmt"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// OnlineChecks are those of name servers, online sources and the ports that
// services may take.
func OnlineChecks() []hp.Check {
	return []hp.Check{
		{ID: "dns-answers", Group: "Network", Title: "Answers of name servers", Severity: hp.Warn,
			Wants: "an answer of each name server within 500 ms, be it that there is no such name",
			Why:   "a server that drops packets costs every look-up five seconds and more (resolv.conf's timeout): pulls, logins and starts take minutes.",
			Run:   hp.Told(facts.FactNetwork, dnsAnswers)},
		{ID: "dns-wildcard", Group: "Network", Title: "Wildcard names", Severity: hp.Warn,
			Wants: "no address for a name that nobody has, with the search domains of /etc/resolv.conf",
			Why:   "pods try names of services with these domains, too, and would reach the wildcard's address in their place (Embedded Cluster refuses it).",
			Run:   hp.Told(facts.FactLookup+":"+nobody, dnsWildcard)},
		{ID: "sources", Group: "Network", Title: "Online sources", Severity: hp.Fail,
			Wants: "each source that the install fetches from answers, with a certificate that this host trusts",
			Why:   "what is missing is noticed half-way otherwise.",
			Run:   sources},
		{ID: "node-ports", Group: "Network", Title: "Ports of services", Severity: hp.Warn,
			Wants: "net.ipv4.ip_local_port_range outside of spec.network.nodePortRange",
			Why:   "outgoing connections take ports of that range at random, and the service that was promised one is not reached.",
			Run:   hp.Told(facts.FactSettings, hp.Told(facts.FactNetwork, nodePorts))},
	}
}

// nobody is a name without dots, so that the search domains are tried, that
// nobody gives to a machine.
const nobody = "plinth-preflight-of-no-machine"

// Lookups are the names to resolve besides the host's own.
func Lookups() []string { return []string{"localhost", nobody} }

func dnsAnswers(f facts.Facts, _ hp.Want) hp.Result {
	var all []hp.Result
	const fix = "name another server in /etc/resolv.conf, or let UDP and TCP port 53 through to this one; on an air-gapped host one that refuses at once will do"
	for _, s := range f.Network.Servers {
		switch {
		case s.Error != "":
			all = append(all, hp.Warned(fix, "%s: %s", s.Address, s.Error))
		case s.TookMS >= 500:
			all = append(all, hp.Warned(fix, "%s answers after %d ms", s.Address, s.TookMS))
		default:
			all = append(all, hp.Passed("%s answers in %d ms", s.Address, s.TookMS))
		}
	}
	if all == nil {
		return hp.Skip("nameserver", "there is none to ask")
	}
	return hp.Worst(all)
}

func dnsWildcard(f facts.Facts, _ hp.Want) hp.Result {
	l, ok := f.Lookup(nobody)
	switch {
	case !ok:
		return hp.CannotTell("no such name was looked up")
	case len(l.Addresses) > 0:
		return hp.Warned("take the wildcard record out of DNS, or its domain out of the search line of /etc/resolv.conf", "%s resolves to %s (search domains: %s)", l.Name, list(l.Addresses), orNone(f.Network.Search))
	case strings.Contains(l.Error, "connection refused"): // as on a host without internet
		return hp.Skip("dns-answers", "the name server refuses to answer")
	case l.Error != "" && l.Error != "no such name":
		return hp.CannotTell(l.Error)
	}
	return hp.Passed("none")
}

func sources(f facts.Facts, w hp.Want) hp.Result {
	if n := len(w.Lacking); n > 0 {
		some, more := w.Lacking[:min(n, 3)], ""
		if n > len(some) {
			more = fmt.Sprintf("; and %d more", n-len(some))
		}
		return hp.Failed("tell who published it that it is not complete, or name another --source", "what the bundle leaves out cannot be had: %s%s", strings.Join(some, "; "), more)
	}
	if len(w.Sources) == 0 {
		return hp.Skip("install", "nothing is fetched from the internet")
	}
	var all []hp.Result
	for _, url := range w.Sources {
		why := f.Why(facts.FactSource + ":" + url)
		for _, s := range f.Sources {
			switch {
			case s.URL != url:
			case s.Error != "":
				all = append(all, hp.Failed("curl -v "+url+" shows more; let this host reach it, name a proxy in spec.proxy, or use a bundle that holds everything", "%s: %s", url, s.Error))
			default:
				all = append(all, hp.Passed("%s answers in %d ms", url, s.TookMS))
			}
		}
		if why != "" {
			all = append(all, hp.CannotTell(url+": "+why))
		}
	}
	return hp.Worst(all)
}

func nodePorts(f facts.Facts, w hp.Want) hp.Result {
	first, last := w.NodePorts[0], w.NodePorts[1]
	if last == 0 {
		return hp.Skip("install", "the Installer names no range")
	}
	var low, high int
	local := f.Settings.Sysctls["net.ipv4.ip_local_port_range"]
	if _, err := fmt.Sscan(local, &low, &high); err != nil {
		return hp.CannotTell("net.ipv4.ip_local_port_range is not two numbers")
	}
	if low <= last && high >= first {
		return hp.Warned(fmt.Sprintf("echo 'net.ipv4.ip_local_port_range = %d 65535' | sudo tee -a /etc/sysctl.d/91-plinth-host.conf && sudo sysctl --system", max(last+1, 32768)),
			"connections take %s, services may take %d-%d", strings.ReplaceAll(local, " ", "-"), first, last)
	}
	var taken []string
	for _, port := range f.Network.Listening {
		if port >= first && port <= last {
			taken = append(taken, fmt.Sprint(port))
		}
	}
	return hp.Passed("%d-%d; listened on already: %s", first, last, orNone(taken))
}
