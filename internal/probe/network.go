package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/resolvconf"
)

// gatherNetwork reads interfaces, routes, name servers and listening TCP ports.
// Unless the request is LocalOnly, it also queries each name server.
func (pr prober) gatherNetwork(ctx context.Context) partResult {
	var n facts.Network
	var err error
	if n.Interfaces, err = pr.system.ListInterfaces(); err != nil {
		return newPartResult(facts.FactNetwork, err, nil)
	}
	four, err := pr.machine.ReadFile("/proc/net/route")
	if err != nil {
		return newPartResult(facts.FactNetwork, err, nil)
	}
	// A kernel without IPv6 does not have this file.
	n.Routes = append(parseIPv4Routes(four), parseIPv6Routes(pr.files.ReadBytes("/proc/net/ipv6_route"))...)
	n.Nameservers = parseNameservers(pr.files.ReadBytes("/etc/resolv.conf"))
	n.Search = parseSearchDomains(pr.files.ReadBytes("/etc/resolv.conf"))
	for _, path := range resolvconf.Paths() {
		if pr.files.Exists(path) {
			n.Resolvers = append(n.Resolvers, resolvconf.Parse(path, pr.files.ReadBytes(path)))
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		for _, s := range parseSockets(pr.files.ReadBytes("/proc/net/" + table)) {
			n.Listening = append(n.Listening, s.Port)
		}
	}
	slices.Sort(n.Listening)
	n.Listening = slices.Compact(n.Listening)
	if !pr.req.LocalOnly {
		n.Servers = pr.queryNameservers(ctx, n.Nameservers)
	}
	return newPartResult(facts.FactNetwork, nil, func(f *facts.Facts) { f.Network = n })
}

// gatherHostname reads the host name and, unless the request is LocalOnly,
// resolves it.
func (pr prober) gatherHostname(ctx context.Context) partResult {
	text, err := pr.machine.ReadFile("/proc/sys/kernel/hostname")
	name := strings.TrimSpace(string(text))
	if err == nil && name == "" {
		err = errors.New("/proc/sys/kernel/hostname is empty")
	}
	if err != nil {
		return newPartResult(facts.FactHostname, err, nil)
	}
	if pr.req.LocalOnly {
		return newPartResult(facts.FactHostname, nil, func(f *facts.Facts) { f.Hostname = name })
	}
	a := pr.resolveName(ctx, name)
	resolved := a.record
	a.record = func(f *facts.Facts) { f.Hostname = name; resolved(f) }
	return a
}

// resolveName measures one name lookup. No response is a fact, not an unknown:
// every program on this host would wait as long.
func (pr prober) resolveName(ctx context.Context, name string) partResult {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	start := pr.system.Now()
	addrs, err := pr.system.ResolveName(ctx, name)
	got := facts.Lookup{Name: name, TookMS: pr.system.Now().Sub(start).Milliseconds()}
	for _, a := range addrs {
		if a = a.Unmap(); !slices.Contains(got.Addresses, a) {
			got.Addresses = append(got.Addresses, a)
		}
	}
	var dns *net.DNSError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		got.Error = fmt.Sprintf("no answer within %s", lookupTimeout)
	case errors.As(err, &dns) && dns.IsNotFound:
		got.Error = "no such name"
	case errors.As(err, &dns) && dns.Server != "":
		got.Error = "name server " + dns.Server + ": " + errnoName(err)
	default:
		got.Error = err.Error()
	}
	return partResult{record: func(f *facts.Facts) { f.Lookups = append(f.Lookups, got) }}
}

// queryNameservers queries all name servers in parallel for a name that does
// not exist: "no such name" is a valid response.
func (pr prober) queryNameservers(ctx context.Context, addresses []netip.Addr) []facts.NameServer {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	all := make([]facts.NameServer, len(addresses))
	var wg sync.WaitGroup
	for i, a := range addresses {
		wg.Go(func() {
			start := pr.system.Now()
			err := pr.system.QueryNameserver(ctx, a)
			all[i] = facts.NameServer{Address: a, TookMS: pr.system.Now().Sub(start).Milliseconds()}
			if err != nil && ctx.Err() != nil {
				err = fmt.Errorf("no answer within %s", lookupTimeout)
			}
			if err != nil {
				all[i].Error = err.Error()
			}
		})
	}
	wg.Wait()
	return all
}

// requestSource requests url and returns the HTTP status, or the error, and how
// far the server's clock differs.
func (pr prober) requestSource(ctx context.Context, url string) partResult {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	start := pr.system.Now()
	status, date, err := pr.system.RequestURL(ctx, url, pr.req.Proxy)
	end := pr.system.Now()
	s := facts.Source{URL: url, TookMS: end.Sub(start).Milliseconds(), Status: status}
	switch {
	case err != nil && ctx.Err() != nil:
		s.Error = fmt.Sprintf("no answer within %s", sourceTimeout)
	case err != nil:
		s.Error = err.Error()
	case !date.IsZero():
		s.Offset = date.Sub(start.Add(end.Sub(start) / 2)).Round(time.Second)
	}
	return partResult{record: func(f *facts.Facts) { f.Sources = append(f.Sources, s) }}
}

// dialAddress connects to one TCP address. Its status values are those of
// troubleshoot.sh.
func (pr prober) dialAddress(ctx context.Context, address string) partResult {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	err := pr.system.DialTCP(ctx, address)
	d := facts.Dial{Address: address, Status: "connected"}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		d.Status = "connection-timeout"
	case errnoName(err) == "ECONNREFUSED":
		d.Status = "connection-refused"
	default:
		d.Status = "error"
	}
	return partResult{record: func(f *facts.Facts) { f.Dials = append(f.Dials, d) }}
}

// gatherPorts tries to bind all requested ports.
func (pr prober) gatherPorts(ctx context.Context) partResult {
	all, unknown := bindPorts(ctx, pr.machine, pr.system, pr.req.Ports)
	return partResult{unknown: unknown, record: func(f *facts.Facts) { f.Ports = all }}
}
