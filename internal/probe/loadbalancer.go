package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/facts"
)

const (
	balancerAttempt = 500 * time.Millisecond // one connection through a load balancer
	balancerPause   = time.Second            // between two attempts
)

// balancerTest is one test: a listener on this host that answers the request with the
// response, and nothing else with anything. The tokens are random, so that a response
// through the load balancer can only come from this listener.
type balancerTest struct {
	key               facts.BalancerKey
	request, response string
}

// testBalancer reports whether a connection to the load balancer of key arrives at this
// host. It tries again until key.Timeout, at most a minute, because a load balancer may
// lead to other hosts, and to this one only after its health check has seen the listener.
func testBalancer(ctx context.Context, key facts.BalancerKey) string {
	if !key.HTTP && !isHostPort(key.Address) {
		return "invalid-address"
	}
	t := balancerTest{key: key, request: rand.Text(), response: rand.Text()}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(key.Port)))
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return "address-in-use"
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return "bind-permission-denied"
	case err != nil:
		return "error"
	}
	defer func() { _ = listener.Close() }()
	limit := min(key.Timeout, facts.MaxVendorTimeout)
	if limit <= 0 {
		limit = facts.MaxVendorTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	go t.serve(listener)
	return t.connectUntil(ctx)
}

// isHostPort reports whether address is a host in lower case and a port.
func isHostPort(address string) bool {
	name, port, err := net.SplitHostPort(address)
	n, errPort := strconv.Atoi(port)
	if err != nil || errPort != nil || n < 1 || n > 65535 || name == "" || strings.ToLower(name) != name || strings.ContainsAny(name, "/ _") {
		return false
	}
	if strings.Trim(name, "0123456789.") == "" {
		_, err = netip.ParseAddr(name)
	}
	return err == nil
}

// serve answers connections until l is closed.
func (t balancerTest) serve(l net.Listener) {
	if t.key.HTTP {
		server := http.Server{ReadTimeout: balancerAttempt, WriteTimeout: balancerAttempt, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(io.LimitReader(r.Body, 1024))
			if err == nil && string(body) == t.request {
				_, _ = io.WriteString(w, t.response) // the client reports a failure
			}
		})}
		_ = server.Serve(l) // it ends when l is closed
		return
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(balancerAttempt))
			got := make([]byte, len(t.request))
			if _, err := io.ReadFull(c, got); err == nil && string(got) == t.request {
				_, _ = io.WriteString(c, t.response) // the client reports a failure
			}
		}()
	}
}

// connectUntil connects until the response arrives, the connection is refused, or ctx
// ends, and returns the status.
func (t balancerTest) connectUntil(ctx context.Context) string {
	last := "connection-timeout"
	for {
		err := t.connect(ctx)
		switch {
		case err == nil:
			return "connected"
		case errors.Is(err, unix.ECONNREFUSED):
			return "connection-refused"
		case ctx.Err() != nil:
			return last
		case isTimeout(err):
			last = "connection-timeout"
		case t.key.HTTP: // also another host's response
			last = "error"
		case !errors.Is(err, errOtherHost):
			return "error"
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(balancerPause):
		}
	}
}

// errOtherHost is the error of a response that does not come from this host.
var errOtherHost = errors.New("another host responds")

// isTimeout reports whether err is a connection that took too long.
func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// connect sends the request through the load balancer once.
func (t balancerTest) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, balancerAttempt)
	defer cancel()
	if t.key.HTTP {
		return t.post(ctx)
	}
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", t.key.Address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(balancerAttempt))
	if _, err := io.WriteString(c, t.request); err != nil {
		return errOtherHost
	}
	got := make([]byte, len(t.response))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != t.response {
		return errOtherHost
	}
	return nil
}

// post sends the request over HTTP, with a connection of its own, so that the load
// balancer chooses a host again.
func (t balancerTest) post(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.key.Address, strings.NewReader(t.request))
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1024))
	if err == nil && !bytes.Equal(body, []byte(t.response)) {
		err = fmt.Errorf("%w with status %d", errOtherHost, res.StatusCode)
	}
	return err
}
