// Package balancer owns a node's way to the API servers: a door on loopback
// whose connections lead to a controller that is healthy, and the list of
// controllers, kept on disk so that a node that boots finds its cluster. It
// refuses to look into what passes, and to know how health and list are asked for.
package balancer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// How fast a dead controller is noticed: after at most busyEvery + 2·askTimeout
// + again its connections are cut, and clients come back through another one.
const (
	busyEvery    = time.Second            // between two questions to a controller that carries connections
	idleEvery    = 5 * time.Second        // and to one that carries none
	again        = 200 * time.Millisecond // before a question that failed is repeated
	askTimeout   = time.Second            // for an answer
	dialTimeout  = time.Second            // for a connection
	refreshEvery = 10 * time.Second       // between two looks at the list
	refreshWait  = 5 * time.Second        // for one of them
	strikes      = 2                      // questions in a row that fail before a controller counts as dead
)

// Config says what a balancer stands before.
type Config struct {
	Listen string // address of the door: "127.0.0.1:6443"
	List   List   // the controllers that were last known
	// Healthy asks one controller whether it serves. It has to make sure that
	// it is one of this cluster.
	Healthy func(ctx context.Context, controller netip.AddrPort) error
	// Controllers asks the cluster, through the door, for all its controllers.
	Controllers func(ctx context.Context) ([]netip.AddrPort, error)
	Log         func(text string) // is told what changes
}

// List keeps the addresses of the controllers over restarts.
type List interface {
	Load() ([]netip.AddrPort, error)
	Save([]netip.AddrPort) error
}

// Run opens the door and serves until ctx ends or the door cannot be opened.
func Run(ctx context.Context, c Config) error {
	known, err := c.List.Load()
	if err != nil {
		return err
	}
	if len(known) == 0 {
		return errors.New("no controller of the cluster is known")
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return err
	}
	b := &balancer{Config: c, conns: map[*pair]bool{}}
	b.know(known)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close(); b.cutAll() })
	defer stop()
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() { b.watch(ctx) })
	tasks.Go(func() { b.refresh(ctx) })
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			// Out of file descriptors, most likely: the next one may fit.
			if !pause(ctx, again) {
				return nil
			}
			continue
		}
		tasks.Go(func() { b.serve(ctx, conn.(*net.TCPConn)) })
	}
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

type balancer struct {
	Config

	mu       sync.Mutex
	backends []*backend
	conns    map[*pair]bool
}

// backend is one controller.
type backend struct {
	addr  netip.AddrPort
	conns int       // that it carries or is about to
	fails int       // in a row
	asked time.Time // last
	busy  bool      // is being asked
}

// dead reports whether a backend is to be avoided.
func (b *backend) dead() bool { return b.fails >= strikes }

// know makes list the controllers; what is known of those that stay is kept.
// It reports whether the list changed.
func (b *balancer) know(list []netip.AddrPort) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	var next []*backend
	for _, a := range list {
		i := slices.IndexFunc(b.backends, func(x *backend) bool { return x.addr == a })
		if i < 0 {
			next = append(next, &backend{addr: a})
		} else {
			next = append(next, b.backends[i])
		}
	}
	changed := !slices.EqualFunc(next, b.backends, func(x, y *backend) bool { return x.addr == y.addr })
	for _, old := range b.backends {
		if !slices.Contains(next, old) {
			b.cut(old)
		}
	}
	b.backends = next
	return changed
}

// take picks the controller for a new connection among those not tried yet, and
// counts the connection before it stands: clients that come at the same moment
// are spread. It gives nil when all were tried.
func (b *balancer) take(tried []*backend) *backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	to := pick(b.backends, tried)
	if to != nil {
		to.conns++
	}
	return to
}

// pick chooses the first of those that live with the fewest connections; after
// them one that counts as dead, because a wrong verdict must not close the door.
func pick(all, tried []*backend) (best *backend) {
	for _, x := range all {
		switch {
		case slices.Contains(tried, x):
		case best == nil,
			best.dead() && !x.dead(),
			best.dead() == x.dead() && x.conns < best.conns:
			best = x
		}
	}
	return best
}

// serve carries one client's connection.
func (b *balancer) serve(ctx context.Context, client *net.TCPConn) {
	var tried []*backend
	for to := b.take(nil); to != nil; to = b.take(tried) {
		p := &pair{client: client, to: to}
		carried := b.connect(ctx, p)
		if carried {
			p.carry()
		}
		b.drop(p)
		if carried {
			return
		}
		tried = append(tried, to)
	}
	_ = client.Close()
}

// connect joins a client to its controller. It reports whether the connection
// stands: not if the controller does not answer, or has left the list since.
func (b *balancer) connect(ctx context.Context, p *pair) bool {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", p.to.addr.String())
	if err != nil {
		b.verdict(p.to, err)
		return false
	}
	p.server = conn.(*net.TCPConn)
	b.mu.Lock()
	defer b.mu.Unlock()
	if ctx.Err() != nil || !slices.Contains(b.backends, p.to) {
		_ = conn.Close()
		return false
	}
	b.conns[p] = true
	return true
}

// drop forgets a connection, whether it came to stand or not.
func (b *balancer) drop(p *pair) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, p)
	p.to.conns--
}

// verdict notes what a question to a controller, or a connection, told of it.
// One that is dead loses its connections, if another one lives.
func (b *balancer) verdict(of *backend, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := of.dead()
	if err == nil {
		of.fails = 0
	} else {
		of.fails++
	}
	switch {
	case !was && of.dead():
		b.Log(fmt.Sprintf("controller %s does not serve: %v", of.addr, err))
	case was && !of.dead():
		b.Log(fmt.Sprintf("controller %s serves again", of.addr))
	}
	if of.dead() && slices.ContainsFunc(b.backends, func(x *backend) bool { return !x.dead() }) {
		b.cut(of)
	}
}

// cut ends the connections to one controller; b.mu is held.
func (b *balancer) cut(of *backend) {
	for p := range b.conns {
		if p.to == of {
			p.cut()
		}
	}
}

func (b *balancer) cutAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p := range b.conns {
		p.cut()
	}
}
