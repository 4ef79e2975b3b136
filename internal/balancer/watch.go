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

// watch asks the controllers whether they serve, each at its own pace, until
// ctx ends.
func (b *balancer) watch(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		for _, be := range b.due(time.Now()) {
			asking.Go(func() {
				ask, cancel := context.WithTimeout(ctx, askTimeout)
				defer cancel()
				err := b.Healthy(ask, be.addr)
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

// due lists the controllers to be asked now, and notes that they are.
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

// every is the time between two questions to a controller.
func (b *backend) every() time.Duration {
	switch {
	case b.fails == 1:
		return again
	case b.conns > 0, b.dead():
		return busyEvery
	}
	return idleEvery
}

// refresh asks the cluster for its controllers and keeps the answer, until ctx
// ends. An empty answer is none: it would close the door for good.
func (b *balancer) refresh(ctx context.Context) {
	kept := true
	for {
		ask, cancel := context.WithTimeout(ctx, refreshWait)
		list, err := b.Controllers(ask)
		cancel()
		if err == nil && len(list) > 0 {
			list = slices.Compact(slices.SortedFunc(slices.Values(list), netip.AddrPort.Compare))
			if b.know(list) {
				b.Log(fmt.Sprintf("controllers: %v", list))
				kept = false
			}
			if !kept {
				if err := b.List.Save(list); err != nil {
					b.Log("cannot keep the list of controllers: " + err.Error())
				} else {
					kept = true
				}
			}
		}
		if !pause(ctx, refreshEvery) {
			return
		}
	}
}

// pair is a client's connection and the one that carries it on.
type pair struct {
	client, server *net.TCPConn
	to             *backend
}

// carry moves bytes both ways until both sides have ended.
func (p *pair) carry() {
	defer p.cut()
	var both sync.WaitGroup
	move := func(dst, src *net.TCPConn) {
		_, err := io.Copy(dst, src)
		if err != nil {
			p.cut() // a broken side has nothing more to say to the other
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
