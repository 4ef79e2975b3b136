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

	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// addressTimeout limits one name lookup and one connection attempt.
const addressTimeout = 2 * time.Second

// ValidateAPIAddress validates an additional name or address of the Kubernetes API. It
// returns a usage problem when address is neither a name nor an IP address, and a
// failed preflight when this host cannot resolve the name. Which server answers there
// can be checked only once there is a cluster. doing names the command for the message.
func ValidateAPIAddress(ctx context.Context, doing, address string) error {
	if _, err := netip.ParseAddr(address); err == nil {
		return nil
	}
	if message, _ := spec.CheckValue("hostname", address); message != "" {
		return problem.Newf(problem.ExitUsage, doing, "give --api-address a name or an IP address without a port, such as api.example.com", "--api-address: %s", message)
	}
	ctx, cancel := context.WithTimeout(ctx, addressTimeout)
	defer cancel()
	if _, err := resolveAddress(ctx, address); err != nil {
		return problem.New(problem.ExitPreflight, doing, fmt.Errorf("this host cannot resolve the API address %s: %w", address, err),
			"add the name to DNS or to /etc/hosts on every host, or give --api-address an IP address; nothing on this host was changed")
	}
	return nil
}

// CheckAPIReachable returns an error unless a server with a certificate of the
// authority ca (PEM) answers at port 6443 of address, an additional name or address of
// the Kubernetes API.
func CheckAPIReachable(ctx context.Context, address string, ca []byte) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return errors.New("the cluster's certificate authority cannot be read")
	}
	ctx, cancel := context.WithTimeout(ctx, addressTimeout)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: address, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(address, ports.APIText))
	if err != nil {
		return errors.New(problem.ExplainTimeout(err.Error()))
	}
	return conn.Close()
}
