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
	"github.com/plinthdev/plinth/internal/probe/parse"
	"github.com/plinthdev/plinth/internal/probe/ports"
	"github.com/plinthdev/plinth/internal/probe/sys"
)

// gatherNetwork reads interfaces, routes, name servers and listening TCP ports.
// Unless the request is Near, it also queries each name server.
func (pr look) network(ctx context.Context) answer {
	var n facts.Network
	var err error
	if n.Interfaces, err = pr.k.Links(); err != nil {
		return found(facts.FactNetwork, err, nil)
	}
	four, err := pr.m.ReadFile("/proc/net/route")
	if err != nil {
		return found(facts.FactNetwork, err, nil)
	}
	// A kernel without IPv6 does not have this file.
	n.Routes = append(parse.Routes4(four), parse.Routes6(pr.files.Raw("/proc/net/ipv6_route"))...)
	n.Nameservers = parse.Nameservers(pr.files.Raw("/etc/resolv.conf"))
	n.Search = parse.Search(pr.files.Raw("/etc/resolv.conf"))
	for _, table := range []string{"tcp", "tcp6"} {
		for _, s := range parse.Sockets(pr.files.Raw("/proc/net/" + table)) {
			n.Listening = append(n.Listening, s.Port)
		}
	}
	slices.Sort(n.Listening)
	n.Listening = slices.Compact(n.Listening)
	if !pr.req.Near {
		n.Servers = pr.servers(ctx, n.Nameservers)
	}
	return found(facts.FactNetwork, nil, func(f *facts.Facts) { f.Network = n })
}

// gatherHostname reads the host name and, unless the request is Near, resolves
// it.
func (pr look) hostname(ctx context.Context) answer {
	text, err := pr.m.ReadFile("/proc/sys/kernel/hostname")
	name := strings.TrimSpace(string(text))
	if err == nil && name == "" {
		err = errors.New("/proc/sys/kernel/hostname is empty")
	}
	if err != nil {
		return found(facts.FactHostname, err, nil)
	}
	if pr.req.Near {
		return found(facts.FactHostname, nil, func(f *facts.Facts) { f.Hostname = name })
	}
	a := pr.lookup(ctx, name)
	resolved := a.note
	a.note = func(f *facts.Facts) { f.Hostname = name; resolved(f) }
	return a
}

// resolveName measures one name lookup. No response is a fact, not an unknown:
// every program on this host would wait as long.
func (pr look) lookup(ctx context.Context, name string) answer {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	start := pr.k.Now()
	addrs, err := pr.k.Resolve(ctx, name)
	got := facts.Lookup{Name: name, TookMS: pr.k.Now().Sub(start).Milliseconds()}
	for _, a := range addrs {
		if a = a.Unmap(); !slices.Contains(got.Addresses, a) {
			got.Addresses = append(got.Addresses, a)
		}
	}
	var dns *net.DNSError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		got.Error = fmt.Sprintf("no answer within %s", lookupLimit)
	case errors.As(err, &dns) && dns.IsNotFound:
		got.Error = "no such name"
	case errors.As(err, &dns) && dns.Server != "":
		got.Error = "name server " + dns.Server + ": " + sys.Errno(err)
	default:
		got.Error = err.Error()
	}
	return answer{note: func(f *facts.Facts) { f.Lookups = append(f.Lookups, got) }}
}

// queryNameservers queries all name servers in parallel for a name that does
// not exist: "no such name" is a valid response.
func (pr look) servers(ctx context.Context, addresses []netip.Addr) []facts.Server {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	all := make([]facts.Server, len(addresses))
	var wg sync.WaitGroup
	for i, a := range addresses {
		wg.Go(func() {
			start := pr.k.Now()
			err := pr.k.Ask(ctx, a)
			all[i] = facts.Server{Address: a, TookMS: pr.k.Now().Sub(start).Milliseconds()}
			if err != nil && ctx.Err() != nil {
				err = fmt.Errorf("no answer within %s", lookupLimit)
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
func (pr look) source(ctx context.Context, url string) answer {
	ctx, cancel := context.WithTimeout(ctx, sourceLimit)
	defer cancel()
	start := pr.k.Now()
	status, date, err := pr.k.Greet(ctx, url, pr.req.Proxy)
	end := pr.k.Now()
	s := facts.Source{URL: url, TookMS: end.Sub(start).Milliseconds(), Status: status}
	switch {
	case err != nil && ctx.Err() != nil:
		s.Error = fmt.Sprintf("no answer within %s", sourceLimit)
	case err != nil:
		s.Error = err.Error()
	case !date.IsZero():
		s.Offset = date.Sub(start.Add(end.Sub(start) / 2)).Round(time.Second)
	}
	return answer{note: func(f *facts.Facts) { f.Sources = append(f.Sources, s) }}
}

// dialAddress connects to one TCP address. Its status values are those of
// troubleshoot.sh.
func (pr look) dial(ctx context.Context, address string) answer {
	ctx, cancel := context.WithTimeout(ctx, sourceLimit)
	defer cancel()
	err := pr.k.Dial(ctx, address)
	d := facts.Dial{Address: address, Status: "connected"}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		d.Status = "connection-timeout"
	case sys.Errno(err) == "ECONNREFUSED":
		d.Status = "connection-refused"
	default:
		d.Status = "error"
	}
	return answer{note: func(f *facts.Facts) { f.Dials = append(f.Dials, d) }}
}

// gatherPorts tries to bind all requested ports.
func (pr look) ports(ctx context.Context) answer {
	all, unknown := ports.Bind(ctx, pr.m, pr.k, pr.req.Ports)
	return answer{unknown: unknown, note: func(f *facts.Facts) { f.Ports = all }}
}
