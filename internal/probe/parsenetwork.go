package probe

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

const (
	routeUp     = 0x1   // RTF_UP
	routeReject = 0x200 // RTF_REJECT: prohibit and unreachable; on lo, the kernel's own entries
	noDevice    = "*"   // interface of an IPv4 route without one: blackhole, prohibit, unreachable
)

// parseIPv4Routes returns the routes in /proc/net/route: the main IPv4 table.
// Its addresses are in the byte order of the processor, which is little-endian
// on every architecture that Plinth supports.
func parseIPv4Routes(text []byte) []facts.Route {
	var all []facts.Route
	for f := range fieldsByLine(text) {
		if len(f) < 8 {
			continue
		}
		dst, ok1 := decodeIPv4(f[1])
		gw, ok2 := decodeIPv4(f[2])
		mask, ok3 := decodeIPv4(f[7])
		flags, err := strconv.ParseUint(f[3], 16, 32)
		if !ok1 || !ok2 || !ok3 || err != nil || flags&routeUp == 0 {
			continue
		}
		m := mask.As4()
		ones := bits.LeadingZeros32(^binary.BigEndian.Uint32(m[:]))
		r := newRoute(netip.PrefixFrom(dst, ones), gw, f[0])
		if f[0] == noDevice || flags&routeReject != 0 {
			r.Interface, r.Unreachable = "", true // a blackhole has no flag (fib_flag_trans in net/ipv4/fib_trie.c)
		}
		all = append(all, r)
	}
	return all
}

// parseIPv6Routes returns the routes in /proc/net/ipv6_route without loopback,
// multicast and link-local entries, which every host has.
func parseIPv6Routes(text []byte) []facts.Route {
	var all []facts.Route
	for f := range fieldsByLine(text) {
		if len(f) < 10 || f[9] == "lo" {
			continue
		}
		dst, ok1 := decodeIPv6(f[0])
		gw, ok2 := decodeIPv6(f[4])
		ones, err1 := strconv.ParseUint(f[1], 16, 8)
		flags, err2 := strconv.ParseUint(f[8], 16, 32)
		if !ok1 || !ok2 || err1 != nil || err2 != nil || ones > 128 || flags&routeUp == 0 || flags&routeReject != 0 {
			continue
		}
		if dst.IsMulticast() || dst.IsLinkLocalUnicast() {
			continue
		}
		all = append(all, newRoute(netip.PrefixFrom(dst, int(ones)), gw, f[9]))
	}
	return all
}

// newRoute returns a route; an unspecified gateway becomes the zero address.
func newRoute(dst netip.Prefix, gw netip.Addr, dev string) facts.Route {
	if gw.IsUnspecified() {
		gw = netip.Addr{}
	}
	return facts.Route{Destination: dst.Masked(), Gateway: gw, Interface: dev}
}

// decodeIPv4 decodes a hexadecimal little-endian IPv4 address.
func decodeIPv4(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}), true
}

// decodeIPv6 decodes a hexadecimal IPv6 address.
func decodeIPv6(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(b)), true
}

// parseNameservers returns the name servers in resolv.conf(5).
func parseNameservers(text []byte) []netip.Addr {
	var all []netip.Addr
	for f := range fieldsByLine(text) {
		if len(f) > 1 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil {
				all = append(all, a)
			}
		}
	}
	return all
}

// Socket is a bound socket.
type Socket struct {
	Port  int
	Inode string // as in the links of /proc/PID/fd: socket:[Inode]
}

const (
	tcpListen = "0A" // TCP_LISTEN
	udpBound  = "07" // TCP_CLOSE: a UDP socket that is not connected
)

// parseSockets returns the listening TCP sockets or unconnected UDP sockets in
// /proc/net/tcp, tcp6, udp or udp6.
func parseSockets(text []byte) []Socket {
	var all []Socket
	for f := range fieldsByLine(text) {
		if len(f) < 10 || (f[3] != tcpListen && f[3] != udpBound) {
			continue
		}
		colon := strings.LastIndexByte(f[1], ':')
		port, err := strconv.ParseUint(f[1][colon+1:], 16, 16)
		if colon < 0 || err != nil || f[9] == "0" {
			continue
		}
		all = append(all, Socket{Port: int(port), Inode: f[9]})
	}
	return all
}
