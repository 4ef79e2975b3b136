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
	"github.com/plinthdev/plinth/hostpreflight/checks"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/peercheck"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/problem"
)

// maxPeers is the number of other hosts that one host queries. Three are enough to find
// its faults, and the cost for each host does not grow with the number of hosts.
const maxPeers = 3

// listenTimeout is how long a host answers others.
const listenTimeout = 30 * time.Minute

// SamplePeers returns the peers out of all that the host self queries. The sample is
// always the same for one host and differs between hosts, so that together the hosts
// query all peers.
func SamplePeers(self string, all []string) []string {
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

// Peers are the hosts with which this one will share a cluster.
type Peers struct {
	Addresses []string // addresses or names
	// Ask queries one of them and authenticates it.
	Ask func(ctx context.Context, at netip.Addr, ask peercheck.Request) (peercheck.Response, error)
}

// requestedPeers returns the hosts that the user named.
func requestedPeers(env *action.Env, req RunOptions) (Peers, error) {
	if len(req.Peers) == 0 {
		return Peers{}, nil
	}
	if req.Code == "" {
		return Peers{}, problem.New(problem.ExitUsage, "query other hosts", errors.New("the code is missing"), "pass it with --peer-code-file FILE, or - for standard input; `plinth preflight --listen` on the other host prints it")
	}
	env.Secrets.Hide(req.Code)
	return Peers{Addresses: req.Peers, Ask: func(ctx context.Context, at netip.Addr, ask peercheck.Request) (peercheck.Response, error) {
		return peercheck.SendRequest(ctx, netip.AddrPortFrom(at, peercheck.ControlPort), req.Code, ask)
	}}, nil
}

// checkPeers queries the peers of this host in parallel and returns one result for
// each. controller reports whether this host will be a controller.
func checkPeers(ctx context.Context, env *action.Env, found facts.Facts, peers Peers, controller bool) []facts.Peer {
	if len(peers.Addresses) == 0 {
		return nil
	}
	chosen := SamplePeers(found.Hostname, peers.Addresses)
	if n := len(peers.Addresses) - len(chosen); n > 0 {
		env.Note(fmt.Sprintf("checking %d of the %d hosts; the others are checked by other hosts", len(chosen), len(peers.Addresses)))
	}
	listeners := peercheck.OpenListeners(ctx, peercheck.RequiredPorts(true, controller), peercheck.UDPPort, false)
	defer listeners.Close()
	ask := peercheck.Request{Identity: PeerIdentity(found), Controller: controller, Nonce: listeners.Nonce, Ports: listeners.Ports, MTU: found.Network.MTU()}
	out := make([]facts.Peer, len(chosen))
	var all sync.WaitGroup
	for i, name := range chosen {
		all.Go(func() { out[i] = checkPeer(ctx, env, name, peers, ask) })
	}
	all.Wait()
	return out
}

// PeerIdentity returns the data with which a host identifies itself to others.
func PeerIdentity(f facts.Facts) peercheck.Identity {
	return peercheck.Identity{Hostname: f.Hostname, MachineID: f.MachineID, Addresses: f.Network.UplinkAddresses(), Traits: f.Traits()}
}

// checkPeer queries the host name and tests the connections in both directions.
func checkPeer(ctx context.Context, env *action.Env, name string, peers Peers, ask peercheck.Request) facts.Peer {
	out := facts.Peer{Address: name}
	address, err := resolveAddress(ctx, name)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	started := env.Now()
	answer, err := peers.Ask(ctx, address, ask)
	if err != nil {
		out.Error, out.NotListening = peercheck.ExplainNoResponse(err)
		return out
	}
	there := peercheck.CheckPorts(ctx, address, answer.Nonce, peercheck.FilterPorts(answer.Ports, peercheck.RequiredPorts(ask.Controller, answer.Controller)), min(ask.MTU, answer.MTU))
	who := answer.Identity
	out.Hostname, out.MachineID, out.Addresses, out.Traits = who.Hostname, who.MachineID, who.Addresses, who.Traits
	out.RTT = time.Duration(there.RTT)
	// The request arrived after three trips: connection, key exchange, request.
	out.Offset = started.Add(5 * out.RTT / 2).Sub(answer.Received)
	out.Out, out.In = toFactsReach(there), toFactsReach(answer.Reverse)
	return out
}

// resolveAddress returns the IP address of name, which may be an IP address itself.
func resolveAddress(ctx context.Context, name string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return a, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return netip.Addr{}, err
	}
	return found[0].Unmap(), nil
}

func toFactsReach(r peercheck.Reachability) facts.Reachability {
	out := facts.Reachability{Tried: len(r.Ports), FullPacket: r.FullPacket, LargestPacket: r.Packet}
	for _, p := range r.Ports {
		if p.Error != "" {
			out.Blocked = append(out.Blocked, facts.Blocked{PortKey: facts.PortKey{Number: p.Number, Protocol: p.Protocol}, Reason: p.Error})
		}
	}
	return out
}

// ListenerInfo is what other hosts need to query a host that listens.
type ListenerInfo struct {
	Address string `json:"address"` // address at which other hosts query this one
	Code    string `json:"code"`    // code that authenticates them; secret
}

// Listen answers other hosts until ctx ends, for at most listenTimeout. It calls ready
// with what the others need once it listens. It changes nothing on this host. An empty
// code is replaced by a new one.
func Listen(ctx context.Context, env *action.Env, code string, flags AddressFlags, ready func(ListenerInfo)) error {
	const doing = "answer other hosts"
	if err := action.RequireRoot(doing); err != nil {
		return err
	}
	request, err := flags.parse(doing)
	if err != nil {
		return err
	}
	found := probe.Gather(ctx, env.Host, checks.FactsRequest(hostpreflight.Requirements{Quick: true}))
	own, err := found.Network.ChooseAddress(request)
	if err != nil {
		return problem.New(problem.ExitPreflight, doing, err, "`plinth preflight` names the addresses of this host; choose one with --address")
	}
	found.Network.NodeAddress = own.Address
	if code == "" {
		code = peercheck.NewCode()
	}
	certificate, err := peercheck.NewCertificate(env.Now())
	if err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf(":%d", peercheck.ControlPort))
	if err != nil {
		return problem.New(problem.ExitUsage, doing, err, "another program uses the port; on a cluster node this is the Plinth agent, which checks joining hosts automatically")
	}
	self := func() (peercheck.Identity, int) { return PeerIdentity(found), found.Network.MTU() }
	handler := &peercheck.Handler{Self: self, Controller: true, Now: env.Now}
	defer handler.Close()
	mux := http.NewServeMux()
	mux.Handle("POST "+peercheck.RequestPath, peercheck.RequireCode(code, handler))
	// One connection per request: the authentication is bound to it.
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}}
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	ready(ListenerInfo{Address: own.Address.String(), Code: code})
	if err := server.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
