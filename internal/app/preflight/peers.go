package preflight

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/builtin"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/probe/peer"
	"github.com/plinthdev/plinth/internal/problem"
)

// maxPeers is how many other hosts one host asks: enough to find what is wrong
// with it, and the cost for each host stays the same however many there are.
const maxPeers = 3

// listenFor is how long a host answers others.
const listenFor = 30 * time.Minute

// Sample is the peers that a host asks of all that were named: always the same,
// others for each host, so that together they ask all.
func Sample(self string, all []string) []string {
	rank := func(name string) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(self + "\x00" + name))
		return h.Sum64()
	}
	out := slices.Clone(all)
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) <= maxPeers {
		return out
	}
	slices.SortFunc(out, func(x, y string) int { return cmp.Compare(rank(x), rank(y)) })
	return out[:maxPeers]
}

// Others are the hosts that this one is to share a cluster with.
type Others struct {
	Addresses []string // or names
	// Ask asks one of them, which has to prove who it is.
	Ask func(ctx context.Context, at netip.Addr, ask peer.Ask) (peer.Answer, error)
}

// named are the hosts that the user named.
func named(r *run.Run, req Request) (Others, error) {
	if len(req.Peers) == 0 {
		return Others{}, nil
	}
	if req.Code == "" {
		return Others{}, problem.New(problem.ExitUsage, "ask other hosts", errors.New("the code is missing"), "give it with --peer-code-file FILE, or - for standard input; `plinth preflight --listen` on the other host prints it")
	}
	r.Secrets.Hide(req.Code)
	return Others{Addresses: req.Peers, Ask: func(ctx context.Context, at netip.Addr, ask peer.Ask) (peer.Answer, error) {
		return peer.Question(ctx, netip.AddrPortFrom(at, peer.ControlPort), req.Code, ask)
	}}, nil
}

// meet asks others, all at once, for a host that is to be a controller or not.
func meet(ctx context.Context, r *run.Run, found facts.Facts, others Others, controller bool) []facts.Peer {
	if len(others.Addresses) == 0 {
		return nil
	}
	chosen := Sample(found.Hostname, others.Addresses)
	if n := len(others.Addresses) - len(chosen); n > 0 {
		r.Note(fmt.Sprintf("asking %d of the %d hosts; the others are asked by other hosts", len(chosen), len(others.Addresses)))
	}
	ears := peer.Open(ctx, peer.Ports(true, controller), peer.UDPPort, false)
	defer ears.Close()
	ask := peer.Ask{Identity: Identity(found), Controller: controller, Nonce: ears.Nonce, Ears: ears.All, MTU: found.Network.MTU()}
	out := make([]facts.Peer, len(chosen))
	var all sync.WaitGroup
	for i, name := range chosen {
		all.Go(func() { out[i] = askPeer(ctx, r, name, others, ask) })
	}
	all.Wait()
	return out
}

// Identity is what a host tells others of itself.
func Identity(f facts.Facts) peer.Identity {
	return peer.Identity{Hostname: f.Hostname, MachineID: f.MachineID, Addresses: f.Network.Own(), Traits: f.Traits()}
}

// askPeer asks one host and reaches it.
func askPeer(ctx context.Context, r *run.Run, name string, others Others, ask peer.Ask) facts.Peer {
	out := facts.Peer{Address: name}
	address, err := resolve(ctx, name)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	begun := r.Now()
	answer, err := others.Ask(ctx, address, ask)
	if err != nil {
		out.Error, out.Absent = peer.Unasked(err)
		return out
	}
	there := peer.Try(ctx, address, answer.Nonce, peer.Among(answer.Ears, peer.Ports(ask.Controller, answer.Controller)), min(ask.MTU, answer.MTU))
	who := answer.Identity
	out.Hostname, out.MachineID, out.Addresses, out.Traits = who.Hostname, who.MachineID, who.Addresses, who.Traits
	out.RTT = time.Duration(there.RTT)
	// The question arrived after three trips: to connect, to agree on keys, itself.
	out.Offset = begun.Add(5 * out.RTT / 2).Sub(answer.Received)
	out.Out, out.In = reach(there), reach(answer.Back)
	return out
}

func resolve(ctx context.Context, name string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return a, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return netip.Addr{}, err
	}
	return found[0].Unmap(), nil
}

func reach(r peer.Reach) facts.Reach {
	out := facts.Reach{Tried: len(r.Ports), Full: r.Full, Packet: r.Packet}
	for _, p := range r.Ports {
		if p.Error != "" {
			out.Blocked = append(out.Blocked, facts.Blocked{PortKey: facts.PortKey{Number: p.Number, Protocol: p.Protocol}, Why: p.Error})
		}
	}
	return out
}

// Listening is what a host that answers others tells.
type Listening struct {
	Address string `json:"address"` // under which the others ask it
	Code    string `json:"code"`    // that they have to know
}

// Listen answers other hosts until ctx ends or half an hour is over; ready is told
// what the others need. It changes nothing on this host.
func Listen(ctx context.Context, r *run.Run, code string, ready func(Listening)) error {
	const doing = "answer other hosts"
	if err := run.NeedRoot(doing); err != nil {
		return err
	}
	found := probe.Gather(ctx, r.Host, builtin.Request(hostpreflight.Want{Quick: true}))
	own := found.Network.Own()
	if len(own) == 0 {
		return problem.New(problem.ExitPreflight, doing, errors.New("this host has no address that others could reach"), "give the host an address and a default route")
	}
	if code == "" {
		code = peer.NewCode()
	}
	certificate, err := peer.Certificate(r.Now())
	if err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf(":%d", peer.ControlPort))
	if err != nil {
		return problem.New(problem.ExitUsage, doing, err, "another program has the port; on a node of a cluster it is Plinth's own, and joining hosts are checked there by themselves")
	}
	self := func() (peer.Identity, int) { return Identity(found), found.Network.MTU() }
	handler := &peer.Handler{Self: self, Controller: true, Now: r.Now}
	defer handler.Close()
	mux := http.NewServeMux()
	mux.Handle("POST "+peer.Path, peer.Guard(code, handler))
	// One connection a question: the proofs are bound to it.
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}}
	ctx, cancel := context.WithTimeout(ctx, listenFor)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	ready(Listening{Address: own[0].String(), Code: code})
	if err := server.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
