package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"time"

	"github.com/plinthdev/plinth/internal/ports"
)

// Peer is what answers at an address, at etcd's port for its peers.
type Peer int

// The kinds of peers.
const (
	NoPeer      Peer = iota // nothing accepts a connection
	OwnPeer                 // a member of the cluster
	ForeignPeer             // a program with TLS, whose certificate another authority has signed: the etcd of another cluster
	OtherPeer               // a program that is no etcd of k0s: it does not speak TLS
	SilentPeer              // something accepts connections, and does not say what it is; it may be a member of the cluster
)

// peerTimeout is how long a host may take to accept a connection, and then to identify itself.
const peerTimeout = 2 * time.Second

// IdentifyPeer returns what listens on etcd's port for its peers at the IP address. ca is the authority of the etcd of the
// cluster, in PEM.
func IdentifyPeer(ctx context.Context, address string, ca []byte) Peer {
	return identifyPeer(ctx, net.JoinHostPort(address, ports.EtcdPeerText), ca)
}

// identifyPeer is IdentifyPeer with a port in the address. Without an authority, any program with TLS counts as a member.
func identifyPeer(ctx context.Context, address string, ca []byte) Peer {
	d := net.Dialer{Timeout: peerTimeout}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return NoPeer
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(peerTimeout))
	var shown *x509.Certificate
	err = tls.Client(c, &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // no data is sent; the certificate is compared below, also an expired one
		VerifyConnection: func(s tls.ConnectionState) error {
			shown = s.PeerCertificates[0]
			return nil
		},
	}).HandshakeContext(ctx)
	var notTLS tls.RecordHeaderError
	switch { // a member refuses this client, which has no certificate, after it has shown its own
	case shown != nil && isSignedBy(shown, ca):
		return OwnPeer
	case shown != nil:
		return ForeignPeer
	case errors.As(err, &notTLS):
		return OtherPeer
	}
	return SilentPeer
}

// isSignedBy reports whether the authority ca, in PEM, has signed cert.
func isSignedBy(cert *x509.Certificate, ca []byte) bool {
	block, _ := pem.Decode(ca)
	if block == nil {
		return true
	}
	authority, err := x509.ParseCertificate(block.Bytes)
	return err != nil || cert.CheckSignatureFrom(authority) == nil
}
