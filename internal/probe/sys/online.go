package sys

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// nobody is a name that no zone has (RFC 6761): a server answers that by
// itself, or passes it on and shows how long that takes.
const nobody = "plinth-preflight.invalid."

// ask sends one question to server, past /etc/hosts and the other servers.
func ask(ctx context.Context, server netip.Addr) error {
	var dialer net.Dialer
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, net.JoinHostPort(server.String(), "53"))
	}}
	_, err := r.LookupNetIP(ctx, "ip4", nobody)
	var dns *net.DNSError
	if errors.As(err, &dns) && !dns.IsTimeout && (dns.IsNotFound || dns.Err == "server misbehaving" || dns.IsTemporary && ctx.Err() == nil) {
		return nil // it refuses or cannot tell, but it answers
	}
	return err
}

// dial connects and lets go.
func dial(ctx context.Context, address string) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

// greet asks for target and gives the status of the answer and the server's
// clock, zero when it tells none. Any answer will do; its certificate must be
// good. The body is not read.
func greet(ctx context.Context, target, proxy string) (status int, date time.Time, err error) {
	via := http.ProxyFromEnvironment
	if proxy != "" {
		u, err := url.Parse(proxy)
		if err != nil {
			return 0, date, errors.New("the proxy's URL cannot be read")
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
		err = wrapped.Err // the URL is named already
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
