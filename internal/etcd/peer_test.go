package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestIdentifyPeer_ComparesTheAuthority(t *testing.T) {
	now := time.Now()
	ca, err := pki.NewCA("etcd-ca", now)
	testkit.Must(t, err)
	other, err := pki.NewCA("etcd-ca", now) // of another cluster, with the same name
	testkit.Must(t, err)
	member := func(authority pki.Pair, at time.Time) func(net.Conn) {
		pair, err := authority.IssueServerCert([]string{"127.0.0.1"}, at)
		testkit.Must(t, err)
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		testkit.Must(t, err)
		conf := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		return func(c net.Conn) { _ = tls.Server(c, conf).Handshake() }
	}
	for name, c := range map[string]struct {
		serve func(net.Conn) // nil to accept and say nothing
		want  Peer
	}{
		"a member":                        {member(ca, now), OwnPeer},
		"one of another cluster":          {member(other, now), ForeignPeer},
		"a program without TLS":           {func(c net.Conn) { _, _ = c.Write([]byte("220 mail.example.com ESMTP\r\n")) }, OtherPeer},
		"one that closes":                 {func(net.Conn) {}, SilentPeer},
		"one that accepts and is stopped": {nil, SilentPeer},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			testkit.Must(t, err)
			defer func() { _ = l.Close() }()
			go func() {
				for c.serve != nil {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					c.serve(conn)
					_ = conn.Close()
				}
			}()
			if got := identifyPeer(t.Context(), l.Addr().String(), ca.Cert); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
			if c.want != ForeignPeer && c.want != OwnPeer {
				return
			}
			if got := identifyPeer(t.Context(), l.Addr().String(), nil); got != OwnPeer {
				t.Errorf("without an authority, %d", got)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		testkit.Must(t, err)
		address := l.Addr().String()
		testkit.Must(t, l.Close())
		if got := identifyPeer(t.Context(), address, ca.Cert); got != NoPeer {
			t.Errorf("%d", got)
		}
	})
}
