// Package balancer is a TCP load balancer that forwards connections from a loopback address to a healthy API server.
// The list of controllers is stored on disk, so that a node finds its cluster after a reboot.
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

// Intervals and timeouts of health checks. A dead controller is detected within
// busyInterval + 2·checkTimeout + retryDelay; then its connections are closed, and
// clients reconnect through another controller.
const (
	busyEvery    = time.Second            // between checks of a controller with connections
	idleEvery    = 5 * time.Second        // between checks of a controller without connections
	again        = 200 * time.Millisecond // before a failed check is repeated
	askTimeout   = time.Second            // of a check
	dialTimeout  = time.Second            // of a connection attempt
	refreshEvery = 10 * time.Second       // between queries of the list of controllers
	refreshWait  = 5 * time.Second        // of such a query
	strikes      = 2                      // consecutive failures after which a controller is dead
)

// Config configures a load balancer.
type Config struct {
	Listen string // address to listen on: "127.0.0.1:6443"
	List   List   // stores the last known controllers
	// CheckReady returns an error unless the controller is ready. It must verify
	// that the controller belongs to this cluster.
	Healthy func(ctx context.Context, controller netip.AddrPort) error
	// ListControllers returns all controllers of the cluster. It queries the API
	// through this load balancer.
	Controllers func(ctx context.Context) ([]netip.AddrPort, error)
	Log         func(text string) // receives a line for each change
}

// ControllerStore stores the addresses of the controllers across restarts.
type List interface {
	Load() ([]netip.AddrPort, error)
	Save([]netip.AddrPort) error
}

// Serve listens on c.Listen and forwards connections until ctx ends. It returns an
// error if no controller is known or it cannot listen.
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
			// Most likely out of file descriptors: retry after a delay.
			if !pause(ctx, again) {
				return nil
			}
			continue
		}
		tasks.Go(func() { b.serve(ctx, conn.(*net.TCPConn)) })
	}
}

// sleepContext waits for d. It reports false if ctx ended first.
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
	conns int       // open connections and connection attempts
	fails int       // consecutive
	asked time.Time // end of the last check
	busy  bool      // a check is running
}

// isDead reports whether new connections should avoid the backend.
func (b *backend) dead() bool { return b.fails >= strikes }

// setControllers replaces the backends by those in list, and reports whether the
// list changed. Backends that stay keep their state; the connections of removed
// ones are closed.
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

// acquireBackend returns the backend for a new connection, among those that are not
// in tried; nil if all were tried. It counts the connection before it is
// established, so that clients which connect at the same time are spread.
func (b *balancer) take(tried []*backend) *backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	to := pick(b.backends, tried)
	if to != nil {
		to.conns++
	}
	return to
}

// pickBackend returns the live backend with the fewest connections that is not in
// tried. If none is left it returns a dead one, because a wrong health check result
// must not cut the node off from the API.
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

// handleConn forwards one client connection.
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

// connectBackend connects to the backend of p and reports whether the connection is
// established. It reports false if the backend does not answer or was removed from
// the list in the meantime.
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

// releaseConn forgets a connection, whether it was established or not.
func (b *balancer) drop(p *pair) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, p)
	p.to.conns--
}

// recordCheck records the result of a health check or a connection attempt. If the
// backend is dead and another one is live, its connections are closed.
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
		b.Log(fmt.Sprintf("controller %s is not ready: %v", of.addr, err))
	case was && !of.dead():
		b.Log(fmt.Sprintf("controller %s is ready again", of.addr))
	}
	if of.dead() && slices.ContainsFunc(b.backends, func(x *backend) bool { return !x.dead() }) {
		b.cut(of)
	}
}

// closeConnsTo closes the connections to one backend. b.mu must be held.
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
