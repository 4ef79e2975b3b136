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

// Ears are the ports of this host, bound for a test. Each answers a TCP
// connection with the nonce, and a UDP datagram that begins with the nonce with
// the nonce alone: nobody who was not told it gets an answer.
type Ears struct {
	Nonce string
	All   []Ear

	open []interface{ Close() error }
	busy sync.WaitGroup
}

// nonceLength is the length of a nonce as text.
const nonceLength = 26

// Open binds every port that is free, one of them for UDP, too; on a live node,
// whose own programs may be about to take theirs, that alone. Close frees them.
func Open(ctx context.Context, ports []int, udp int, live bool) *Ears {
	e := &Ears{Nonce: rand.Text()[:nonceLength]}
	var lc net.ListenConfig
	for _, port := range ports {
		at := ":" + strconv.Itoa(port)
		ear := Ear{Port: port, UDP: Closed}
		ln, err := lc.Listen(ctx, "tcp", at)
		ear.TCP = state(err)
		switch {
		case err == nil && live:
			_ = ln.Close()
			ear.TCP = Closed
		case err == nil:
			e.open = append(e.open, ln)
			e.busy.Go(func() { e.answerTCP(ln) })
		}
		if port == udp {
			ear.UDP = e.openUDP(ctx, at)
		}
		e.All = append(e.All, ear)
	}
	return e
}

func (e *Ears) openUDP(ctx context.Context, at string) State {
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp", at)
	if err == nil {
		e.open = append(e.open, conn)
		e.busy.Go(func() { e.answerUDP(conn) })
	}
	return state(err)
}

// state is that of a port after it was tried to bind.
func state(err error) State {
	switch {
	case err == nil:
		return Held
	case errors.Is(err, syscall.EADDRINUSE):
		return InUse
	}
	return Closed
}

// Close frees the ports.
func (e *Ears) Close() {
	for _, c := range e.open {
		_ = c.Close()
	}
	e.busy.Wait()
}

func (e *Ears) answerTCP(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write([]byte(e.Nonce))
		_ = conn.Close()
	}
}

func (e *Ears) answerUDP(conn net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if n >= nonceLength && subtle.ConstantTimeCompare(buf[:nonceLength], []byte(e.Nonce)) == 1 {
			_, _ = conn.WriteTo(buf[:nonceLength], from)
		}
	}
}
