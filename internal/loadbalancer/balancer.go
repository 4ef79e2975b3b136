// Package loadbalancer is a TCP load balancer that forwards connections from a loopback address to a healthy API server.
// The list of controllers is stored on disk, so that a node finds its cluster after a reboot.
package loadbalancer

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
	busyInterval    = time.Second            // between checks of a controller with connections
	idleInterval    = 5 * time.Second        // between checks of a controller without connections
	retryDelay      = 200 * time.Millisecond // before a failed check is repeated
	checkTimeout    = time.Second            // of a check
	dialTimeout     = time.Second            // of a connection attempt
	refreshInterval = 10 * time.Second       // between queries of the list of controllers
	refreshTimeout  = 5 * time.Second        // of such a query
	maxFailures     = 2                      // consecutive failures after which a controller is dead
)

// Config configures a load balancer.
type Config struct {
	Listen string          // address to listen on: "127.0.0.1:6443"
	Store  ControllerStore // stores the last known controllers
	// CheckReady returns an error unless the controller is ready. It must verify
	// that the controller belongs to this cluster.
	CheckReady func(ctx context.Context, controller netip.AddrPort) error
	// ListControllers returns all controllers of the cluster. It queries the API
	// through this load balancer.
	ListControllers func(ctx context.Context) ([]netip.AddrPort, error)
	// FindControllers returns them in another way, while no known controller answers; nil for none.
	FindControllers func(ctx context.Context) ([]netip.AddrPort, error)
	Log             func(text string) // receives a line for each change
}

// ControllerStore stores the addresses of the controllers across restarts.
type ControllerStore interface {
	Load() ([]netip.AddrPort, error)
	Save([]netip.AddrPort) error
}

// Serve listens on c.Listen and forwards connections until ctx ends. It returns an
// error if no controller is known or it cannot listen.
func Serve(ctx context.Context, c Config) error {
	known, err := c.Store.Load()
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
	b := &balancer{Config: c, conns: map[*connPair]bool{}, stored: sortControllers(known)}
	b.setControllers(known)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close(); b.closeAllConns() })
	defer stop()
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() { b.watchHealth(ctx) })
	tasks.Go(func() { b.refreshControllers(ctx) })
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			// Most likely out of file descriptors: retry after a delay.
			if !sleepContext(ctx, retryDelay) {
				return nil
			}
			continue
		}
		tasks.Go(func() { b.handleConn(ctx, conn.(*net.TCPConn)) })
	}
}

// sleepContext waits for d. It reports false if ctx ended first.
func sleepContext(ctx context.Context, d time.Duration) bool {
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
	stored []netip.AddrPort // the list in Store, sorted; used by refreshControllers only

	mu       sync.Mutex
	backends []*backend
	conns    map[*connPair]bool
}

// backend is one controller.
type backend struct {
	addr      netip.AddrPort
	conns     int       // open connections and connection attempts
	failures  int       // consecutive
	checkedAt time.Time // end of the last check
	checking  bool      // a check is running
}

// isDead reports whether new connections should avoid the backend.
func (b *backend) isDead() bool { return b.failures >= maxFailures }

// setControllers replaces the backends by those in list, and reports whether the
// list changed. Backends that stay keep their state; the connections of removed
// ones are closed.
func (b *balancer) setControllers(list []netip.AddrPort) bool {
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
			b.closeConnsTo(old)
		}
	}
	b.backends = next
	return changed
}

// acquireBackend returns the backend for a new connection, among those that are not
// in tried; nil if all were tried. It counts the connection before it is
// established, so that clients which connect at the same time are spread.
func (b *balancer) acquireBackend(tried []*backend) *backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	to := pickBackend(b.backends, tried)
	if to != nil {
		to.conns++
	}
	return to
}

// pickBackend returns the live backend with the fewest connections that is not in
// tried. If none is left it returns a dead one, because a wrong health check result
// must not cut the node off from the API.
func pickBackend(all, tried []*backend) (best *backend) {
	for _, x := range all {
		switch {
		case slices.Contains(tried, x):
		case best == nil,
			best.isDead() && !x.isDead(),
			best.isDead() == x.isDead() && x.conns < best.conns:
			best = x
		}
	}
	return best
}

// handleConn forwards one client connection.
func (b *balancer) handleConn(ctx context.Context, client *net.TCPConn) {
	var tried []*backend
	for to := b.acquireBackend(nil); to != nil; to = b.acquireBackend(tried) {
		p := &connPair{client: client, backend: to}
		carried := b.connectBackend(ctx, p)
		if carried {
			p.copyBothWays()
		}
		b.releaseConn(p)
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
func (b *balancer) connectBackend(ctx context.Context, p *connPair) bool {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", p.backend.addr.String())
	if err != nil {
		b.recordCheck(p.backend, err)
		return false
	}
	p.server = conn.(*net.TCPConn)
	b.mu.Lock()
	defer b.mu.Unlock()
	if ctx.Err() != nil || !slices.Contains(b.backends, p.backend) {
		_ = conn.Close()
		return false
	}
	b.conns[p] = true
	return true
}

// releaseConn forgets a connection, whether it was established or not.
func (b *balancer) releaseConn(p *connPair) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, p)
	p.backend.conns--
}

// recordCheck records the result of a health check or a connection attempt. If the
// backend is dead and another one is live, its connections are closed.
func (b *balancer) recordCheck(of *backend, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := of.isDead()
	if err == nil {
		of.failures = 0
	} else {
		of.failures++
	}
	switch {
	case !was && of.isDead():
		b.Log(fmt.Sprintf("controller %s is not ready: %v", of.addr, err))
	case was && !of.isDead():
		b.Log(fmt.Sprintf("controller %s is ready again", of.addr))
	}
	if of.isDead() && slices.ContainsFunc(b.backends, func(x *backend) bool { return !x.isDead() }) {
		b.closeConnsTo(of)
	}
}

// closeConnsTo closes the connections to one backend. b.mu must be held.
func (b *balancer) closeConnsTo(of *backend) {
	for p := range b.conns {
		if p.backend == of {
			p.closeBoth()
		}
	}
}

func (b *balancer) closeAllConns() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p := range b.conns {
		p.closeBoth()
	}
}
