//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/internal/token"
)

// tcpBalancer is a TCP load balancer in front of the controllers, as a customer may
// have one: it does not run on a node.
type tcpBalancer struct {
	address string   // at which the hosts of the lab reach it
	callers sync.Map // "port address" of clients whose connections it forwarded
}

// startBalancer forwards the ports of the API and of the agent to one controller.
func startBalancer(t *testing.T, to *lab.Host) *tcpBalancer {
	ip := to.IP()
	b := &tcpBalancer{address: machineAddress(to)}
	for _, port := range []string{"6443", "9444"} {
		ln, err := net.Listen("tcp", b.address+":"+port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			for {
				in, err := ln.Accept()
				if err != nil {
					return
				}
				go b.forwardConn(in, ip, port)
			}
		}()
	}
	return b
}

func (b *tcpBalancer) forwardConn(in net.Conn, ip, port string) {
	defer func() { _ = in.Close() }()
	out, err := net.Dial("tcp", ip+":"+port)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	from, _, _ := net.SplitHostPort(in.RemoteAddr().String())
	b.callers.Store(port+" "+from, true)
	go func() {
		_, _ = io.Copy(out, in)
		_ = out.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(in, out)
}

// hasForwarded reports whether a host has connected to a controller's port through
// the balancer.
func (b *tcpBalancer) hasForwarded(port string, h *lab.Host) bool {
	_, ok := b.callers.Load(port + " " + h.IP())
	return ok
}

// blockDirectAccess blocks a host's direct connections to the agent of a controller,
// so that only the balancer is left, until undo is called.
func (b *tcpBalancer) blockDirectAccess(ctx context.Context, h, controller *lab.Host) (undo func()) {
	rule := " OUTPUT -p tcp -d " + controller.IP() + " --dport 9444 -j REJECT --reject-with tcp-reset"
	h.MustRun(ctx, "sh", "-c", "iptables -I"+rule)
	return func() { h.MustRun(ctx, "sh", "-c", "iptables -D"+rule) }
}

// checkAddresses verifies that tokens contain the balancer's address and that
// certificates are valid for it.
func (b *tcpBalancer) checkAddresses(t *testing.T, ctx context.Context, a *lab.Host) {
	tok, err := token.Decode(createToken(t, ctx, a, "--role", "worker").Result.Token)
	if err != nil {
		t.Fatal(err)
	}
	if last := tok.Addresses[len(tok.Addresses)-1]; last != b.address+":9444" {
		t.Errorf("the token has the addresses %v", tok.Addresses)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(a.MustRun(ctx, "cat", "/var/lib/k0s/pki/ca.crt")))
	for _, port := range []string{"6443", "9444"} {
		conn, err := tls.Dial("tcp", b.address+":"+port, &tls.Config{RootCAs: roots})
		if err != nil {
			t.Errorf("at port %s: %v", port, err)
			continue
		}
		_ = conn.Close()
	}
}
