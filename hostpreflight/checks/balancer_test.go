package checks

import (
	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

func balancerFaults() []fault {
	with := func(first, last string) func(*facts.Facts, *hp.Requirements) {
		return func(f *facts.Facts, req *hp.Requirements) {
			req.LoadBalancer = []hp.AddressRange{{First: mustAddr(first), Last: mustAddr(last)}}
			f.Peers = append(f.Peers, facts.Peer{Address: "10.77.108.200"})
		}
	}
	return []fault{
		{"load-balancer-addresses", "no load balancer", hp.Skipped, func(*facts.Facts, *hp.Requirements) {}},
		{"load-balancer-addresses", "free", hp.Pass, with("10.77.108.240", "10.77.108.250")},
		{"load-balancer-addresses", "of this host", hp.Fail, with("10.77.108.2", "10.77.108.20")},
		{"load-balancer-addresses", "of another node", hp.Fail, with("10.77.108.200", "10.77.108.200")},
		{"load-balancer-addresses", "the broadcast address", hp.Fail, with("10.77.108.248", "10.77.108.255")},
		{"load-balancer-addresses", "the address of the network", hp.Fail, with("10.77.108.0", "10.77.108.0")},
		{"load-balancer-addresses", "of another network", hp.Warn, with("192.0.2.1", "192.0.2.9")},
		{"load-balancer-addresses", "partly of another network", hp.Fail, with("10.77.108.250", "10.77.109.3")},
	}
}
