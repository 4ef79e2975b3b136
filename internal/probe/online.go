package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// unresolvableName is a name that no DNS zone contains (RFC 6761): a name
// server answers it itself, or forwards the query and shows how long that
// takes.
const unresolvableName = "plinth-preflight.invalid."

// queryNameserver sends one query to server directly, bypassing /etc/hosts and
// the other name servers. It returns nil for every response, even for an error
// response.
func queryNameserver(ctx context.Context, server netip.Addr) error {
	_, err := resolverAt(net.JoinHostPort(server.String(), "53")).LookupNetIP(ctx, "ip4", unresolvableName)
	var dns *net.DNSError
	if errors.As(err, &dns) && !dns.IsTimeout && (dns.IsNotFound || dns.Err == "server misbehaving" || dns.IsTemporary && ctx.Err() == nil) {
		return nil // the server refuses or cannot resolve it, but it responds
	}
	return err
}

// resolverAt returns a resolver that asks only server, host:port.
func resolverAt(server string) *net.Resolver {
	var dialer net.Dialer
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, server)
	}}
}

// resolveAt returns the addresses of name, from /etc/hosts or from server alone. name ends
// with a dot, so that no search domain is added.
func resolveAt(ctx context.Context, server, name string) ([]netip.Addr, error) {
	return resolverAt(server).LookupNetIP(ctx, "ip", name)
}

// dialTCP opens a TCP connection to address and closes it.
func dialTCP(ctx context.Context, address string) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

// requestURL sends a GET request to target and returns the status of the
// response and the server's clock, which is zero if the response has no date.
// Any status is a success; the server's certificate must be valid. The body is
// not read.
func requestURL(ctx context.Context, target, proxy string) (status int, date time.Time, err error) {
	via := http.ProxyFromEnvironment
	if proxy != "" {
		u, err := url.Parse(proxy)
		if err != nil {
			return 0, date, errors.New("cannot parse the proxy's URL")
		}
		via = http.ProxyURL(u)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, date, err
	}
	transport := &http.Transport{Proxy: via, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // the caller reports the URL
	}
	if err != nil {
		return 0, date, err
	}
	_ = res.Body.Close()
	if date, err = http.ParseTime(res.Header.Get("Date")); err != nil {
		date = time.Time{}
	}
	return res.StatusCode, date, nil
}
