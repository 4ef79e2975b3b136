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

// greet asks for the head of url and gives the server's clock, zero when it
// tells none. Any answer will do; its certificate must be good.
func greet(ctx context.Context, target, proxy string) (time.Time, error) {
	via := http.ProxyFromEnvironment
	if proxy != "" {
		u, err := url.Parse(proxy)
		if err != nil {
			return time.Time{}, errors.New("the proxy's URL cannot be read")
		}
		via = http.ProxyURL(u)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, target, nil)
	if err != nil {
		return time.Time{}, err
	}
	transport := &http.Transport{Proxy: via, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // the URL is named already
	}
	if err != nil {
		return time.Time{}, err
	}
	_ = res.Body.Close()
	date, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return time.Time{}, nil
	}
	return date, nil
}
