package peercheck

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Listeners are ports of this host that are bound for a peer check. Each one
// answers a TCP connection with the nonce, and answers a UDP datagram that
// begins with the nonce with the nonce alone: a client without the nonce gets
// no answer by UDP.
type Listeners struct {
	Nonce string
	Ports []PortState

	closers []interface{ Close() error }
	serving sync.WaitGroup
}

// nonceLength is the length of a nonce as text.
const nonceLength = 26

// OpenListeners binds every free port of ports for TCP, and port udp for UDP,
// too. On a live node, whose own programs may be about to bind their ports, it
// only keeps the UDP port bound. Close releases the ports.
func OpenListeners(ctx context.Context, ports []int, udp int, live bool) *Listeners {
	l := &Listeners{Nonce: rand.Text()[:nonceLength]}
	var lc net.ListenConfig
	for _, port := range ports {
		at := ":" + strconv.Itoa(port)
		p := PortState{Port: port, UDP: Closed}
		ln, err := lc.Listen(ctx, "tcp", at)
		p.TCP = bindState(err)
		switch {
		case err == nil && live:
			_ = ln.Close()
			p.TCP = Closed
		case err == nil:
			l.closers = append(l.closers, ln)
			l.serving.Go(func() { l.answerTCP(ln) })
		}
		if port == udp {
			p.UDP = l.listenUDP(ctx, at)
		}
		l.Ports = append(l.Ports, p)
	}
	return l
}

func (l *Listeners) listenUDP(ctx context.Context, at string) State {
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", at)
	if err == nil {
		l.closers = append(l.closers, conn)
		l.serving.Go(func() { l.answerUDP(conn) })
	}
	return bindState(err)
}

// bindState returns the state of a port from the error of binding it.
func bindState(err error) State {
	switch {
	case err == nil:
		return Held
	case errors.Is(err, syscall.EADDRINUSE):
		return InUse
	}
	return Closed
}

// Close releases the ports.
func (l *Listeners) Close() {
	for _, c := range l.closers {
		_ = c.Close()
	}
	l.serving.Wait()
}

func (l *Listeners) answerTCP(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write([]byte(l.Nonce))
		_ = conn.Close()
	}
}

func (l *Listeners) answerUDP(conn net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if n >= nonceLength && subtle.ConstantTimeCompare(buf[:nonceLength], []byte(l.Nonce)) == 1 {
			_, _ = conn.WriteTo(buf[:nonceLength], from)
		}
	}
}
