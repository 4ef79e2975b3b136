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

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// AddressFlags are the flags with which the user chooses the node's address.
type AddressFlags struct {
	Address   string // --address; "" for any
	Interface string // --network-interface; "" for any
}

// parse returns what the flags request. It returns a usage problem when they are not
// valid; doing names the command for the message.
func (a AddressFlags) parse(doing string) (r facts.AddressRequest, err error) {
	if a.Address != "" && a.Interface != "" {
		return r, problem.New(problem.ExitUsage, doing, errors.New("both --address and --network-interface are given"), "use only one of them")
	}
	r.Interface = a.Interface
	if a.Address == "" {
		return r, nil
	}
	r.Address, err = netip.ParseAddr(a.Address)
	if err != nil || !r.Address.Is4() || !r.Address.IsGlobalUnicast() {
		return r, problem.Newf(problem.ExitUsage, doing, "give --address an IPv4 address of this host, without a length or port: ip -brief address lists them", "%q is not an IPv4 address at which other hosts can reach this one", a.Address)
	}
	return r, nil
}

// Request returns what the node's address must satisfy: what the flags request or, on a
// host with a recorded address, that one. It returns a usage problem when the flags name
// another address of f's host than the recorded one; doing names the command.
func (a AddressFlags) Request(doing string, f facts.Facts, recorded facts.Identity) (facts.AddressRequest, error) {
	r, err := a.parse(doing)
	if err != nil || !recorded.Address.IsValid() {
		return r, err
	}
	own := facts.AddressRequest{Address: recorded.Address, Interface: r.Interface} // the interface may have other addresses, too
	if _, err := f.Network.ChooseAddress(own); r.Interface != "" && err != nil || r.Address.IsValid() && r.Address != recorded.Address {
		return r, problem.Newf(problem.ExitUsage, doing, "omit --address and --network-interface; for another address, on the only controller of a cluster: `sudo plinth repair address --address ADDRESS`; on another host: `sudo plinth reset node`, then join again",
			"the address of this host's node is %s, and this command does not change it", recorded.Address)
	}
	return facts.AddressRequest{Address: recorded.Address}, nil
}

// CheckIdentity returns a failed preflight when f's host has another name, machine id or
// address than an earlier run recorded. doing names the command for the message.
func CheckIdentity(doing string, f facts.Facts, recorded facts.Identity) error {
	if found, fix := hostpreflight.IdentityChanges(f, recorded); found != "" {
		return problem.New(problem.ExitPreflight, doing, errors.New(found), fix+"\nnothing on this host was changed")
	}
	return nil
}

// RequireAddress returns an error when the network of a host could not be read, so that
// it has no address. In every other case the check node-address has failed before.
func RequireAddress(doing string, f facts.Facts) error {
	if f.Network.NodeAddress.IsValid() {
		return nil
	}
	return problem.Newf(problem.ExitPreflight, doing, "run `plinth preflight`; nothing on this host was changed", "the addresses of this host cannot be read: %s", f.UnknownReason(facts.FactNetwork))
}

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
