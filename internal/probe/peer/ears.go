package peer

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
type Ears struct {
	Nonce string
	All   []Ear

	open []interface{ Close() error }
	busy sync.WaitGroup
}

// nonceLength is the length of a nonce as text.
const nonceLength = 26

// OpenListeners binds every free port of ports for TCP, and port udp for UDP,
// too. On a live node, whose own programs may be about to bind their ports, it
// only keeps the UDP port bound. Close releases the ports.
func Open(ctx context.Context, ports []int, udp int, live bool) *Ears {
	l := &Ears{Nonce: rand.Text()[:nonceLength]}
	var lc net.ListenConfig
	for _, port := range ports {
		at := ":" + strconv.Itoa(port)
		p := Ear{Port: port, UDP: Closed}
		ln, err := lc.Listen(ctx, "tcp", at)
		p.TCP = state(err)
		switch {
		case err == nil && live:
			_ = ln.Close()
			p.TCP = Closed
		case err == nil:
			l.open = append(l.open, ln)
			l.busy.Go(func() { l.answerTCP(ln) })
		}
		if port == udp {
			p.UDP = l.openUDP(ctx, at)
		}
		l.All = append(l.All, p)
	}
	return l
}

func (l *Ears) openUDP(ctx context.Context, at string) State {
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", at)
	if err == nil {
		l.open = append(l.open, conn)
		l.busy.Go(func() { l.answerUDP(conn) })
	}
	return state(err)
}

// bindState returns the state of a port from the error of binding it.
func state(err error) State {
	switch {
	case err == nil:
		return Held
	case errors.Is(err, syscall.EADDRINUSE):
		return InUse
	}
	return Closed
}

// Close releases the ports.
func (l *Ears) Close() {
	for _, c := range l.open {
		_ = c.Close()
	}
	l.busy.Wait()
}

func (l *Ears) answerTCP(ln net.Listener) {
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

func (l *Ears) answerUDP(conn net.PacketConn) {
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
