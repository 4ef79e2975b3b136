package troubleshoot

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// balancerKind returns the kind of a load balancer that leads to a port of this host.
// The port is in use on a host that has a node, so nothing is tested there.
func balancerKind(title string, http bool) analyzerKind {
	key := func(c collector) facts.BalancerKey {
		timeout, _ := time.ParseDuration(c.Timeout) // validated
		return facts.BalancerKey{Address: c.Address, Port: c.Port, HTTP: http, Timeout: timeout}
	}
	status := func(f facts.Facts, c collector) string {
		for _, b := range f.Balancers {
			if b.BalancerKey == key(c) {
				return b.Status
			}
		}
		return ""
	}
	return analyzerKind{title: title, factName: func(c collector) string { return facts.FactBalancer + ":" + c.Address },
		hasSettings: func(c collector) bool { return c.Address != "" && c.Port != 0 },
		addRequest: func(r *facts.Request, req hp.Requirements, c collector, _ analyzer) {
			if !req.Owned.Installed && !slices.Contains(r.Balancers, key(c)) {
				r.Balancers = append(r.Balancers, key(c))
			}
		},
		describe: func(f facts.Facts, req hp.Requirements, c collector) (string, error) {
			found := status(f, c)
			switch {
			case req.Owned.Installed:
				return "", skipError{"plinth", "this host has a node, which uses the port"}
			case found == "":
				return "", errors.New(c.Address + " was not tested")
			}
			return fmt.Sprintf("%s to port %d: %s", c.Address, c.Port, found), nil
		},
		compileCondition: func(c collector, _ analyzer, text string) (condition, error) {
			return func(f facts.Facts, _ hp.Requirements) bool { return status(f, c) == text }, requireOneOf(text, networkStatuses()...)
		}}
}

// networkStatuses returns the results of a connection, in the words of troubleshoot.sh.
func networkStatuses() []string {
	return []string{"connected", "connection-refused", "connection-timeout", "address-in-use", "bind-permission-denied", "invalid-address", "error"}
}

// certificateKind returns the kind certificate: a certificate and its key on the host.
func certificateKind() analyzerKind {
	files := func(c collector) facts.KeyPairFiles {
		return facts.KeyPairFiles{Certificate: c.CertificatePath, Key: c.KeyPath}
	}
	status := func(f facts.Facts, c collector) facts.KeyPairStatus {
		for _, p := range f.KeyPairs {
			if p.KeyPairFiles == files(c) {
				return p.Status
			}
		}
		return ""
	}
	return analyzerKind{title: "Certificate Key Pair", factName: func(c collector) string { return facts.FactKeyPair + ":" + c.CertificatePath },
		hasSettings: func(c collector) bool { return c.CertificatePath != "" && c.KeyPath != "" },
		addRequest: func(r *facts.Request, _ hp.Requirements, c collector, _ analyzer) {
			if !slices.Contains(r.KeyPairs, files(c)) {
				r.KeyPairs = append(r.KeyPairs, files(c))
			}
		},
		describe: func(f facts.Facts, _ hp.Requirements, c collector) (string, error) {
			found := status(f, c)
			if found == "" {
				return "", errors.New(c.CertificatePath + " was not read")
			}
			return fmt.Sprintf("%s and %s: %s", c.CertificatePath, c.KeyPath, found), nil
		},
		compileCondition: func(c collector, _ analyzer, text string) (condition, error) {
			return func(f facts.Facts, _ hp.Requirements) bool { return status(f, c) == facts.KeyPairStatus(text) },
				requireOneOf(text, string(facts.KeyPairValid), string(facts.KeyPairMissing), string(facts.KeyPairSwitched), string(facts.KeyPairEncrypted), string(facts.KeyPairMismatch), string(facts.KeyPairInvalid))
		}}
}

// subnetKind returns the kind subnetAvailable: whether a range contains a network of a
// size that no route overlaps.
func subnetKind() analyzerKind {
	find := func(f facts.Facts, c collector) (netip.Prefix, bool) {
		within, _ := c.allocationRange() // validated
		return findFreeSubnet(within, c.DesiredCIDR, f.Network)
	}
	return analyzerKind{title: "Subnet Available", factName: func(collector) string { return facts.FactNetwork },
		hasSettings: func(c collector) bool { return c.CIDRRangeAlloc != "" && c.DesiredCIDR != 0 },
		describe: func(f facts.Facts, req hp.Requirements, c collector) (string, error) {
			if req.Owned.Installed {
				return "", skipError{"plinth", "this host has a node, whose networks have routes"}
			}
			if p, ok := find(f, c); ok {
				return fmt.Sprintf("%s in %s is free", p, c.CIDRRangeAlloc), nil
			}
			return fmt.Sprintf("no free /%d in %s", c.DesiredCIDR, c.CIDRRangeAlloc), nil
		},
		compileCondition: func(c collector, _ analyzer, text string) (condition, error) {
			return func(f facts.Facts, _ hp.Requirements) bool {
				_, ok := find(f, c)
				return ok == (text == "a-subnet-is-available")
			}, requireOneOf(text, "a-subnet-is-available", "no-subnet-available")
		}}
}

// allocationRange returns the range of a subnetAvailable collector. Bits of the host may
// be set in it.
func (c collector) allocationRange() (netip.Prefix, error) {
	p, err := netip.ParsePrefix(c.CIDRRangeAlloc)
	switch {
	case err != nil || !p.Addr().Is4():
		return p, fmt.Errorf("CIDRRangeAlloc: %q is not an IPv4 network such as 10.0.0.0/8", c.CIDRRangeAlloc)
	case c.DesiredCIDR < max(1, p.Bits()) || c.DesiredCIDR > 32:
		return p, fmt.Errorf("desiredCIDR: must be between %d, the size of CIDRRangeAlloc, and 32", max(1, p.Bits()))
	}
	return p.Masked(), nil
}

// findFreeSubnet returns the first network with a prefix of bits in within that no IPv4
// route of n except the default routes overlaps.
func findFreeSubnet(within netip.Prefix, bits int, n facts.Network) (netip.Prefix, bool) {
	size := uint64(1) << (32 - bits)
	defaults := n.DefaultRoutes()
	start, end := addressRange(within)
	for at := start; at+size <= end; {
		busy := uint64(0) // end of the furthest route that overlaps
		for _, r := range n.Routes {
			first, last := addressRange(r.Destination)
			if r.Destination.Addr().Is4() && !slices.Contains(defaults, r) && first < at+size && at < last {
				busy = max(busy, last)
			}
		}
		if busy == 0 {
			return netip.PrefixFrom(toAddress(at), bits), true
		}
		at = (busy + size - 1) / size * size
	}
	return netip.Prefix{}, false
}

// addressRange returns the first address of p, and the one after its last, as numbers.
func addressRange(p netip.Prefix) (start, end uint64) {
	for _, b := range p.Masked().Addr().AsSlice() {
		start = start<<8 | uint64(b)
	}
	return start, start + 1<<(32-min(32, max(0, p.Bits())))
}

// toAddress returns the IPv4 address of a number.
func toAddress(n uint64) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
