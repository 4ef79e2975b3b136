package loadbalancer

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// watchHealth checks the backends, each at its own interval, until ctx ends.
func (b *balancer) watchHealth(ctx context.Context) {
	var checks sync.WaitGroup
	defer checks.Wait()
	for {
		for _, be := range b.backendsDue(time.Now()) {
			checks.Go(func() {
				checkCtx, cancel := context.WithTimeout(ctx, checkTimeout)
				defer cancel()
				err := b.CheckReady(checkCtx, be.addr)
				if ctx.Err() == nil {
					b.recordCheck(be, err)
				}
				b.mu.Lock()
				be.checking, be.checkedAt = false, time.Now()
				b.mu.Unlock()
			})
		}
		if !sleepContext(ctx, retryDelay) {
			return
		}
	}
}

// backendsDue returns the backends to check now, and marks them as being checked.
func (b *balancer) backendsDue(now time.Time) (out []*backend) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, be := range b.backends {
		if !be.checking && now.Sub(be.checkedAt) >= be.checkInterval() {
			be.checking = true
			out = append(out, be)
		}
	}
	return out
}

// checkInterval returns the time between two checks of the backend.
func (b *backend) checkInterval() time.Duration {
	switch {
	case b.failures == 1:
		return retryDelay
	case b.conns > 0, b.isDead():
		return busyInterval
	}
	return idleInterval
}

// refreshControllers queries the controllers of the cluster and stores them, until
// ctx ends. It ignores an empty list, which would cut the node off for good. While no
// known controller answers, it looks for others.
func (b *balancer) refreshControllers(ctx context.Context) {
	saved := true
	for {
		list, err := b.queryControllers(ctx)
		if err == nil && len(list) > 0 {
			list = sortControllers(list)
			if b.setControllers(list) {
				b.Log(fmt.Sprintf("controllers: %v", list))
				saved = false
			}
			if !saved {
				if err := b.Store.Save(list); err != nil {
					b.Log("cannot save the list of controllers: " + err.Error())
				} else {
					saved, b.stored = true, list
				}
			}
		}
		if err != nil {
			b.reloadControllers()
		}
		if !sleepContext(ctx, refreshInterval) {
			return
		}
	}
}

// queryControllers returns the controllers of the cluster: as the known ones list them or,
// if none of them answers, as the API does at its additional address.
func (b *balancer) queryControllers(ctx context.Context) ([]netip.AddrPort, error) {
	query := func(ask func(context.Context) ([]netip.AddrPort, error)) ([]netip.AddrPort, error) {
		ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
		return ask(ctx)
	}
	list, err := query(b.ListControllers)
	if err == nil || b.FindControllers == nil {
		return list, err
	}
	return query(b.FindControllers)
}

// reloadControllers uses the stored list if another program has changed it since: after the loss of
// all controllers, a join writes the one that replaces them.
func (b *balancer) reloadControllers() {
	list, err := b.Store.Load()
	if list = sortControllers(list); err != nil || len(list) == 0 || slices.Equal(list, b.stored) {
		return
	}
	b.stored = list
	if b.setControllers(list) {
		b.Log(fmt.Sprintf("controllers, of the changed list: %v", list))
	}
}

// sortControllers returns the controllers of list sorted, each once.
func sortControllers(list []netip.AddrPort) []netip.AddrPort {
	return slices.Compact(slices.SortedFunc(slices.Values(list), netip.AddrPort.Compare))
}

// connPair is the connection of a client and the one to its backend.
type connPair struct {
	client, server *net.TCPConn
	backend        *backend
}

// copyBothWays copies bytes in both directions until both sides have ended.
func (p *connPair) copyBothWays() {
	defer p.closeBoth()
	var both sync.WaitGroup
	move := func(dst, src *net.TCPConn) {
		_, err := io.Copy(dst, src)
		if err != nil {
			p.closeBoth() // after an error on one side, the other one is useless
			return
		}
		_ = dst.CloseWrite()
	}
	both.Go(func() { move(p.server, p.client) })
	both.Go(func() { move(p.client, p.server) })
	both.Wait()
}

func (p *connPair) closeBoth() {
	_ = p.client.Close()
	_ = p.server.Close()
}
