package lab

import "testing"

func TestDescribePacket_NamesProtocolAddressAndPort(t *testing.T) {
	ip := func(protocol byte, rest ...byte) []byte {
		return append([]byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 77, 3, 10, 192, 0, 2, 9}, rest...)
	}
	ip6 := append([]byte{0x60, 0, 0, 0, 0, 8, 6, 64}, make([]byte, 40)...)
	copy(ip6[24:], "\x20\x01\x0d\xb8")
	ip6[39], ip6[42], ip6[43] = 1, 1, 187
	dns := append([]byte{0xc0, 0, 0, 53, 0, 0, 0, 0}, append(make([]byte, 12), "\x05proxy\x07example\x03com\x00\x00\x01"...)...)
	for want, packet := range map[string][]byte{
		"tcp 192.0.2.9:443":                  ip(6, 0xc0, 0, 1, 187, 0, 0, 0, 0),
		"udp 192.0.2.9:53 proxy.example.com": ip(17, dns...),
		"icmp 192.0.2.9":                     ip(1, 8, 0),
		"protocol 47 192.0.2.9":              ip(47),
		"udp 192.0.2.9:53 ":                  ip(17, dns[:10]...),
		"tcp [2001:db8::1]:443":              ip6,
		"":                                   {0, 1, 8, 0, 6, 4}, // ARP
	} {
		t.Run(want, func(t *testing.T) {
			if got, to, ok := describePacket(packet); got != want || ok != (want != "") || ok && to.String() != "192.0.2.9" && to.String() != "2001:db8::1" {
				t.Errorf("%q to %s, want %q", got, to, want)
			}
		})
	}
}
