package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Traffic records the packets that a host sends over its only interface, until its
// test ends. The lab forwards nothing to the outside, but each host has a default
// route, so that every attempt to send something out becomes a packet here.
type Traffic struct {
	mu            sync.Mutex
	packets       int
	sent          map[string]int // packets, by protocol, address, port and name
	dropped       int            // packets that came too fast to be read
	drainRequests chan chan struct{}
	done          chan struct{} // closed when reading has ended
}

// WatchTraffic starts to record what a host and its pods send. It changes nothing on
// the host: the socket that sees the packets is in the host's network namespace and
// belongs to this process.
func (h *Host) WatchTraffic() *Traffic {
	h.t.Helper()
	self, err := netip.ParseAddr(h.IP())
	if err != nil {
		h.t.Fatal(err)
	}
	fd, err := openPacketSocket(h.leaderPID(), "eth0")
	if err != nil {
		h.t.Fatalf("cannot record the traffic of %s: %v", h.Name, err)
	}
	w := &Traffic{sent: map[string]int{}, drainRequests: make(chan chan struct{}), done: make(chan struct{})}
	stop := make(chan struct{})
	h.t.Cleanup(func() { close(stop); <-w.done })
	go w.readPackets(fd, self, stop)
	return w
}

// openPacketSocket opens a socket that receives all packets of an interface in the
// network namespace of a process.
func openPacketSocket(pid int, name string) (fd int, err error) {
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		// The thread stays in the other namespace: it must end with this goroutine.
		runtime.LockOSThread()
		if err = enterNetNS(pid); err == nil {
			fd, err = bindPacketSocket(name)
		}
	}()
	<-opened
	return fd, err
}

// enterNetNS moves this thread into the network namespace of a process.
func enterNetNS(pid int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	return errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET), ns.Close())
}

func bindPacketSocket(name string) (fd int, err error) {
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	link, err := net.InterfaceByName(name)
	if err != nil {
		return -1, err
	}
	// With protocol 0 the socket receives nothing before it is bound to its interface.
	if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20), // bursts
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
	if err != nil {
		_ = unix.Close(fd)
	}
	return fd, err
}

func (w *Traffic) readPackets(fd int, self netip.Addr, stop chan struct{}) {
	defer close(w.done)
	defer func() { _ = unix.Close(fd) }()
	buf := make([]byte, 256)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil { // no packet in the last 20 ms
			select {
			case <-stop:
				return
			case all := <-w.drainRequests:
				w.countLost(fd)
				close(all)
			default:
			}
			continue
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && link.Pkttype == unix.PACKET_OUTGOING {
			w.recordPacket(buf[:n], self)
		}
	}
}

// countLost adds the number of packets that the kernel has dropped since the last call.
func (w *Traffic) countLost(fd int) {
	if st, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.dropped += int(st.Drops)
	}
}

// recordPacket records a packet that was not sent to the lab's own machine.
func (w *Traffic) recordPacket(packet []byte, self netip.Addr) {
	what, to, ok := describePacket(packet)
	// Neighbor discovery does not leave the link.
	if !ok || to.IsMulticast() || to.IsLinkLocalUnicast() && to.Is6() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.packets++
	machine := self.As4()
	machine[3] = 254
	if to != netip.AddrFrom4(machine) && to != self {
		w.sent[what]++
	}
}

// Report returns what was sent so far to other destinations than the lab's own
// machine: protocol, address and port, and the name of a DNS query. It also returns
// the number of all packets and the number of packets that were missed.
func (w *Traffic) Report() (left []string, seen, missed int) {
	all := make(chan struct{})
	select {
	case w.drainRequests <- all:
		<-all
	case <-w.done:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(w.sent)) {
		left = append(left, fmt.Sprintf("%s (packets: %d)", what, w.sent[what]))
	}
	return left, w.packets, w.dropped
}

// describePacket returns protocol, address and port of an IP packet, the name of a
// DNS query, and the destination. ok is false for other packets.
func describePacket(p []byte) (what string, to netip.Addr, ok bool) {
	protocol, head := byte(0), 0
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		to, protocol, head = netip.AddrFrom4([4]byte(p[16:20])), p[9], int(p[0]&15)*4
	case len(p) >= 40 && p[0]>>4 == 6:
		to, protocol, head = netip.AddrFrom16([16]byte(p[24:40])), p[6], 40
	default:
		return "", to, false
	}
	name := map[byte]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}[protocol]
	if name == "" {
		name = fmt.Sprintf("protocol %d", protocol)
	}
	if (name != "tcp" && name != "udp") || len(p) < head+8 {
		return name + " " + to.String(), to, true
	}
	port := binary.BigEndian.Uint16(p[head+2:])
	what = name + " " + netip.AddrPortFrom(to, port).String()
	if name == "udp" && port == 53 {
		what += " " + dnsQuestion(p[head+8:])
	}
	return what, to, true
}

// dnsQuestion returns the name in a DNS query.
func dnsQuestion(query []byte) string {
	const header = 12
	var labels []string
	for at := header; at < len(query) && query[at] != 0; at += int(query[at]) + 1 {
		if end := at + 1 + int(query[at]); end <= len(query) {
			labels = append(labels, string(query[at+1:end]))
		}
	}
	return strings.Join(labels, ".")
}
