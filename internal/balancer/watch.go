package balancer

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
func (b *balancer) watch(ctx context.Context) {
	var checks sync.WaitGroup
	defer checks.Wait()
	for {
		for _, be := range b.due(time.Now()) {
			checks.Go(func() {
				checkCtx, cancel := context.WithTimeout(ctx, askTimeout)
				defer cancel()
				err := b.Healthy(checkCtx, be.addr)
				if ctx.Err() == nil {
					b.verdict(be, err)
				}
				b.mu.Lock()
				be.busy, be.asked = false, time.Now()
				b.mu.Unlock()
			})
		}
		if !pause(ctx, again) {
			return
		}
	}
}

// backendsDue returns the backends to check now, and marks them as being checked.
func (b *balancer) due(now time.Time) (out []*backend) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, be := range b.backends {
		if !be.busy && now.Sub(be.asked) >= be.every() {
			be.busy = true
			out = append(out, be)
		}
	}
	return out
}

// checkInterval returns the time between two checks of the backend.
func (b *backend) every() time.Duration {
	switch {
	case b.fails == 1:
		return again
	case b.conns > 0, b.dead():
		return busyEvery
	}
	return idleEvery
}

// refreshControllers queries the controllers of the cluster and stores them, until
// ctx ends. It ignores an empty list, which would cut the node off for good.
func (b *balancer) refresh(ctx context.Context) {
	saved := true
	for {
		queryCtx, cancel := context.WithTimeout(ctx, refreshWait)
		list, err := b.Controllers(queryCtx)
		cancel()
		if err == nil && len(list) > 0 {
			list = slices.Compact(slices.SortedFunc(slices.Values(list), netip.AddrPort.Compare))
			if b.know(list) {
				b.Log(fmt.Sprintf("controllers: %v", list))
				saved = false
			}
			if !saved {
				if err := b.List.Save(list); err != nil {
					b.Log("cannot save the list of controllers: " + err.Error())
				} else {
					saved = true
				}
			}
		}
		if !pause(ctx, refreshEvery) {
			return
		}
	}
}

// connPair is the connection of a client and the one to its backend.
type pair struct {
	client, server *net.TCPConn
	to             *backend
}

// copyBothWays copies bytes in both directions until both sides have ended.
func (p *pair) carry() {
	defer p.cut()
	var both sync.WaitGroup
	move := func(dst, src *net.TCPConn) {
		_, err := io.Copy(dst, src)
		if err != nil {
			p.cut() // after an error on one side, the other one is useless
			return
		}
		_ = dst.CloseWrite()
	}
	both.Go(func() { move(p.server, p.client) })
	both.Go(func() { move(p.client, p.server) })
	both.Wait()
}

func (p *pair) cut() {
	_ = p.client.Close()
	_ = p.server.Close()
}
