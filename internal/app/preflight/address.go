package preflight

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec/form"
)

// addressTimeout bounds one look-up, and one try to reach an address.
const addressTimeout = 2 * time.Second

// APIAddress judges a further name or address of the API: a word that is
// neither is a usage problem, a name that this host cannot resolve a failed
// preflight. Who answers there can be told only once there is a cluster.
func APIAddress(ctx context.Context, doing, address string) error {
	if _, err := netip.ParseAddr(address); err == nil {
		return nil
	}
	if message, _ := form.Check("hostname", address); message != "" {
		return problem.Newf(problem.ExitUsage, doing, "give --api-address a name or an IP address without a port, such as api.example.com", "--api-address: %s", message)
	}
	ctx, cancel := context.WithTimeout(ctx, addressTimeout)
	defer cancel()
	if _, err := resolve(ctx, address); err != nil {
		return problem.New(problem.ExitPreflight, doing, fmt.Errorf("this host does not know the API's address %s: %w", address, err),
			"make the name known (DNS, or /etc/hosts on every host), or give --api-address an IP address; nothing on this host was changed")
	}
	return nil
}

// Reach says why the API is not reached at a further name or address of it
// from this host; nil when a server with a certificate of ca's answers there.
func Reach(ctx context.Context, address string, ca []byte) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return errors.New("the cluster's certificate authority cannot be read")
	}
	ctx, cancel := context.WithTimeout(ctx, addressTimeout)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: address, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(address, "6443"))
	if err != nil {
		return errors.New(problem.Plain(err.Error()))
	}
	return conn.Close()
}
