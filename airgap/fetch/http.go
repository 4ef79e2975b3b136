package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/plinthdev/plinth/airgap/limit"
)

// maxRedirects is how many redirects one request may follow. Registries and release
// pages need two.
const maxRedirects = 5

// requireTLS returns a transport that refuses plain HTTP, also after redirects,
// except to the local machine, and endless redirects. It returns the response of a
// server that asks to wait as an error, because the packages above it drop the
// header that says for how long.
func requireTLS(next http.RoundTripper) http.RoundTripper { return tlsTransport{next} }

// tlsTransport implements requireTLS.
type tlsTransport struct{ next http.RoundTripper }

// errPlainHTTP marks a request that would be sent over the network unencrypted.
var errPlainHTTP = errors.New("plain http is refused: without TLS only the local machine is allowed")

// IsEncrypted reports whether requests to u are encrypted or stay on this machine. Any other is refused.
func IsEncrypted(u *url.URL) bool {
	host := u.Hostname()
	return u.Scheme == "https" || host == "localhost" || net.ParseIP(host).IsLoopback()
}

func (g tlsTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !IsEncrypted(r.URL) {
		return nil, fmt.Errorf("%s: %w", withoutQuery(r.URL), errPlainHTTP)
	}
	if countRedirects(r) > maxRedirects {
		return nil, fmt.Errorf("%s: more than %d redirects: %w", withoutQuery(r.URL), maxRedirects, ErrUnusable)
	}
	resp, err := g.next.RoundTrip(r)
	if err == nil && r.Method == http.MethodGet && resp.StatusCode >= 400 && resp.Header.Get("Retry-After") != "" {
		return nil, errors.Join(newStatusError(resp), resp.Body.Close())
	}
	return resp, err
}

// countRedirects returns how many redirects led to a request.
func countRedirects(r *http.Request) (n int) {
	for ; r != nil && r.Response != nil; r = r.Response.Request {
		n++
	}
	return n
}

// boundedTransport ends each response after limit.Response bytes, except to
// requests of Client.get, whose callers have bounds of their own.
type boundedTransport struct{ next http.RoundTripper }

func (b boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil && r.Header.Get(encodingHeader) == "" {
		resp.Body = http.MaxBytesReader(nil, resp.Body, limit.Response)
	}
	return resp, err
}

// encodingHeader is a header that only requests of this package have.
const encodingHeader = "Accept-Encoding"

// statusError is a response whose status is not success.
type statusError struct {
	url    string
	status int
	wait   time.Duration // that the server asks for before the next attempt; 0 for none
	detail string        // what the server says about it, on one line; "" for nothing
}

func newStatusError(resp *http.Response) *statusError {
	return &statusError{url: withoutQuery(resp.Request.URL), status: resp.StatusCode, wait: parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())}
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s answers %d %s", e.url, e.status, http.StatusText(e.status))
	if e.wait > 0 {
		text += fmt.Sprintf(" and asks to wait %s", e.wait.Round(time.Second))
	}
	if e.detail != "" {
		text += ": " + e.detail
	}
	return text
}

// parseRetryAfter returns how long a Retry-After header asks to wait: a number of
// seconds or a date (RFC 9110, section 10.2.3). It returns 0 for anything else.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(at.Sub(now), 0)
}
