package peer

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

// How long one port may take.
const (
	tcpWait  = 1500 * time.Millisecond
	udpWait  = 400 * time.Millisecond
	udpTries = 3 // a lost datagram is no closed port
)

// headers are what IPv4 and UDP put before a datagram.
const headers = 20 + 8

// smaller packets that are tried when a full one does not pass.
func smaller() []int { return []int{1480, 1460, 1450, 1430, 1400, 1280, 576} }

// Try reaches every ear of the host at address, all at once. full is the size
// of a packet that has to pass unfragmented; 0 tries none.
func Try(ctx context.Context, address netip.Addr, nonce string, ears []Ear, full int) Reach {
	r := Reach{Full: full}
	var mu sync.Mutex
	var all sync.WaitGroup
	note := func(p Port, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		r.Ports = append(r.Ports, p)
		if took > 0 && (r.RTT == 0 || int64(took) < r.RTT) {
			r.RTT = int64(took)
		}
	}
	for _, e := range ears {
		at := netip.AddrPortFrom(address, uint16(e.Port))
		if e.TCP != Closed {
			all.Go(func() {
				took, err := tryTCP(ctx, at, nonce, e.TCP == Held)
				note(Port{Number: e.Port, Protocol: "tcp", Error: words(err)}, took)
			})
		}
		if e.UDP == Held {
			all.Go(func() { note(Port{Number: e.Port, Protocol: "udp", Error: words(tryUDP(ctx, at, nonce, 0))}, 0) })
		}
	}
	all.Wait()
	slices.SortFunc(r.Ports, func(x, y Port) int {
		if x.Number != y.Number {
			return x.Number - y.Number
		}
		return strings.Compare(x.Protocol, y.Protocol)
	})
	if full > 0 {
		r.Packet = packet(ctx, address, nonce, ears, r)
	}
	return r
}

// packet is the largest packet that passes, of those that are worth knowing.
func packet(ctx context.Context, address netip.Addr, nonce string, ears []Ear, r Reach) int {
	for _, p := range r.Ports {
		if p.Protocol != "udp" || p.Error != "" {
			continue
		}
		at := netip.AddrPortFrom(address, uint16(p.Number))
		for _, size := range append([]int{r.Full}, smaller()...) {
			if size <= r.Full && tryUDP(ctx, at, nonce, size) == nil {
				return size
			}
		}
		return -1
	}
	return 0
}

func tryTCP(ctx context.Context, at netip.AddrPort, nonce string, held bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, tcpWait)
	defer cancel()
	begun := time.Now()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return 0, err
	}
	took := time.Since(begun)
	defer func() { _ = conn.Close() }()
	if !held {
		return took, nil
	}
	_ = conn.SetDeadline(begun.Add(tcpWait))
	got := make([]byte, nonceLength)
	if _, err := io.ReadFull(conn, got); err != nil {
		return took, fmt.Errorf("connected, but the host did not answer: %w", err)
	}
	if string(got) != nonce {
		return took, errors.New("something else answers in the host's place")
	}
	return took, nil
}

// tryUDP sends a datagram and waits for the answer. With a size the packet has
// so many bytes, and may not be fragmented.
func tryUDP(ctx context.Context, at netip.AddrPort, nonce string, size int) error {
	d := net.Dialer{}
	body := []byte(nonce)
	if size > 0 {
		body = append(body, make([]byte, max(0, size-headers-len(nonce)))...)
		d.Control = unfragmented
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
		_ = conn.SetDeadline(time.Now().Add(udpWait))
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

// unfragmented has the kernel send whole packets or none, whatever it thinks to
// know of the path.
func unfragmented(_, _ string, c syscall.RawConn) error {
	var inner error
	err := c.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	})
	return errors.Join(err, inner)
}

// Unasked says why a host could not be asked, and whether it is there, with
// nobody who answers.
func Unasked(err error) (why string, absent bool) {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		absent = errors.Is(err, syscall.ECONNREFUSED)
		if absent {
			return fmt.Sprintf("nobody answers at %d/tcp", ControlPort), absent
		}
		return fmt.Sprintf("%d/tcp: %s", ControlPort, words(err)), absent
	}
	return err.Error(), absent
}

// words is an error as people say it; "" for none.
func words(err error) string {
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
