package peercheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The time limits for one port.
const (
	tcpTimeout = 1500 * time.Millisecond
	udpTimeout = 400 * time.Millisecond
	udpTries   = 3 // a lost datagram does not mean a closed port
)

// ipUDPHeaderSize is the size of the IPv4 and UDP headers of a datagram, in
// bytes.
const ipUDPHeaderSize = 20 + 8

// smallerPacketSizes returns the sizes to try if a full-size packet does not
// pass, in bytes.
func smallerPacketSizes() []int { return []int{1480, 1460, 1450, 1430, 1400, 1280, 576} }

// CheckPorts connects to every port of the host at address in parallel and
// returns how it reached them. full is the size in bytes of a packet that must
// pass unfragmented; 0 skips that check.
func CheckPorts(ctx context.Context, address netip.Addr, nonce string, ports []PortState, full int) Reachability {
	r := Reachability{FullPacket: full}
	var mu sync.Mutex
	var all sync.WaitGroup
	note := func(p PortResult, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		r.Ports = append(r.Ports, p)
		if took > 0 && (r.RTT == 0 || int64(took) < r.RTT) {
			r.RTT = int64(took)
		}
	}
	for _, p := range ports {
		at := netip.AddrPortFrom(address, uint16(p.Port))
		if p.TCP != Closed {
			all.Go(func() {
				took, err := tryTCP(ctx, at, nonce, p.TCP == Held)
				note(PortResult{Number: p.Port, Protocol: "tcp", Error: describeError(err)}, took)
			})
		}
		if p.UDP == Held {
			all.Go(func() {
				note(PortResult{Number: p.Port, Protocol: "udp", Error: describeError(tryUDP(ctx, at, nonce, 0))}, 0)
			})
		}
	}
	all.Wait()
	slices.SortFunc(r.Ports, func(x, y PortResult) int {
		if x.Number != y.Number {
			return x.Number - y.Number
		}
		return strings.Compare(x.Protocol, y.Protocol)
	})
	if full > 0 {
		r.Packet = largestPacket(ctx, address, nonce, ports, r)
	}
	return r
}

// largestPacket returns the size of the largest packet that passes, of
// r.FullPacket and smallerPacketSizes: -1 if none passes, 0 if no UDP port was
// reached.
func largestPacket(ctx context.Context, address netip.Addr, nonce string, ports []PortState, r Reachability) int {
	for _, p := range r.Ports {
		if p.Protocol != "udp" || p.Error != "" {
			continue
		}
		at := netip.AddrPortFrom(address, uint16(p.Number))
		for _, size := range append([]int{r.FullPacket}, smallerPacketSizes()...) {
			if size <= r.FullPacket && tryUDP(ctx, at, nonce, size) == nil {
				return size
			}
		}
		return -1
	}
	return 0
}

// tryTCP connects to at and returns how long this took. If the port is held, it
// must answer with nonce.
func tryTCP(ctx context.Context, at netip.AddrPort, nonce string, held bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, tcpTimeout)
	defer cancel()
	start := time.Now()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return 0, err
	}
	took := time.Since(start)
	defer func() { _ = conn.Close() }()
	if !held {
		return took, nil
	}
	_ = conn.SetDeadline(start.Add(tcpTimeout))
	got := make([]byte, nonceLength)
	if _, err := io.ReadFull(conn, got); err != nil {
		return took, fmt.Errorf("connected, but the host did not answer: %w", err)
	}
	if string(got) != nonce {
		return took, errors.New("another program or host responds at this address")
	}
	return took, nil
}

// tryUDP sends a datagram and waits for the answer. If size is not 0, the
// packet has size bytes and must not be fragmented.
func tryUDP(ctx context.Context, at netip.AddrPort, nonce string, size int) error {
	d := net.Dialer{}
	body := []byte(nonce)
	if size > 0 {
		body = append(body, make([]byte, max(0, size-ipUDPHeaderSize-len(nonce)))...)
		d.Control = setDontFragment
	}
	conn, err := d.DialContext(ctx, "udp", at.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for range udpTries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_ = conn.SetDeadline(time.Now().Add(udpTimeout))
		if _, err = conn.Write(body); err == nil {
			got := make([]byte, nonceLength)
			var n int
			if n, err = conn.Read(got); err == nil && string(got[:n]) == nonce {
				return nil
			}
		}
		if errors.Is(err, syscall.EMSGSIZE) {
			return err
		}
	}
	return err
}

// setDontFragment makes the kernel send whole packets or none, regardless of
// the path MTU that it knows (IP_PMTUDISC_PROBE).
func setDontFragment(_, _ string, c syscall.RawConn) error {
	var inner error
	err := c.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	})
	return errors.Join(err, inner)
}

// ExplainNoResponse returns why a host did not respond to a request; absent
// reports whether the host is up but does not listen on ControlPort.
func ExplainNoResponse(err error) (why string, absent bool) {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		absent = errors.Is(err, syscall.ECONNREFUSED)
		if absent {
			return fmt.Sprintf("nothing listens on %d/tcp", ControlPort), absent
		}
		return fmt.Sprintf("%d/tcp: %s", ControlPort, describeError(err)), absent
	}
	return err.Error(), absent
}

// describeError returns err in the words of a network administrator; "" if it
// is nil.
func describeError(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "no answer: a packet filter drops it"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused: a packet filter rejects it"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route"
	}
	return err.Error()
}
