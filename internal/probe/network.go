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

func (l look) network(ctx context.Context) answer {
	var n facts.Network
	var err error
	if n.Interfaces, err = l.k.Links(); err != nil {
		return found(facts.FactNetwork, err, nil)
	}
	four, err := l.m.ReadFile("/proc/net/route")
	if err != nil {
		return found(facts.FactNetwork, err, nil)
	}
	// A kernel without IPv6 has no such file.
	n.Routes = append(parse.Routes4(four), parse.Routes6(l.files.Raw("/proc/net/ipv6_route"))...)
	n.Nameservers = parse.Nameservers(l.files.Raw("/etc/resolv.conf"))
	n.Search = parse.Search(l.files.Raw("/etc/resolv.conf"))
	for _, table := range []string{"tcp", "tcp6"} {
		for _, s := range parse.Sockets(l.files.Raw("/proc/net/" + table)) {
			n.Listening = append(n.Listening, s.Port)
		}
	}
	slices.Sort(n.Listening)
	n.Listening = slices.Compact(n.Listening)
	if !l.req.Near {
		n.Servers = l.servers(ctx, n.Nameservers)
	}
	return found(facts.FactNetwork, nil, func(f *facts.Facts) { f.Network = n })
}

func (l look) hostname(ctx context.Context) answer {
	text, err := l.m.ReadFile("/proc/sys/kernel/hostname")
	name := strings.TrimSpace(string(text))
	if err == nil && name == "" {
		err = errors.New("/proc/sys/kernel/hostname is empty")
	}
	if err != nil {
		return found(facts.FactHostname, err, nil)
	}
	if l.req.Near {
		return found(facts.FactHostname, nil, func(f *facts.Facts) { f.Hostname = name })
	}
	a := l.lookup(ctx, name)
	resolved := a.note
	a.note = func(f *facts.Facts) { f.Hostname = name; resolved(f) }
	return a
}

// lookup measures one look-up. No answer is a fact, not a doubt: it is what
// every program on this host will wait for.
func (l look) lookup(ctx context.Context, name string) answer {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	start := l.k.Now()
	addrs, err := l.k.Resolve(ctx, name)
	got := facts.Lookup{Name: name, TookMS: l.k.Now().Sub(start).Milliseconds()}
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

// servers asks each name server for a name that nobody has, all at once: "no
// such name" is as good an answer as any.
func (l look) servers(ctx context.Context, addresses []netip.Addr) []facts.Server {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	all := make([]facts.Server, len(addresses))
	var wg sync.WaitGroup
	for i, a := range addresses {
		wg.Go(func() {
			start := l.k.Now()
			err := l.k.Ask(ctx, a)
			all[i] = facts.Server{Address: a, TookMS: l.k.Now().Sub(start).Milliseconds()}
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

// source greets one place in the internet.
func (l look) source(ctx context.Context, url string) answer {
	ctx, cancel := context.WithTimeout(ctx, sourceLimit)
	defer cancel()
	start := l.k.Now()
	status, date, err := l.k.Greet(ctx, url, l.req.Proxy)
	end := l.k.Now()
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

// dial connects to one address; the words are those of troubleshoot.sh.
func (l look) dial(ctx context.Context, address string) answer {
	ctx, cancel := context.WithTimeout(ctx, sourceLimit)
	defer cancel()
	err := l.k.Dial(ctx, address)
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

// ports binds all that was asked for.
func (l look) ports(ctx context.Context) answer {
	all, unknown := ports.Bind(ctx, l.m, l.k, l.req.Ports)
	return answer{unknown: unknown, note: func(f *facts.Facts) { f.Ports = all }}
}
