package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/plinthdev/plinth/airgap/limit"
)

// maxAttempts is the number of attempts without any progress. With the pauses
// between them they cover an outage of about 40 seconds.
const maxAttempts = 5

// RequireTLS returns a transport that refuses plain HTTP, also after redirects, except to the local machine.
func RequireTLS(next http.RoundTripper) http.RoundTripper { return tlsTransport{next} }

// tlsTransport implements RequireTLS.
type tlsTransport struct{ next http.RoundTripper }

// errPlainHTTP marks a request that would be sent over the network unencrypted.
var errPlainHTTP = errors.New("plain http is refused: without TLS only the local machine is allowed")

func (g tlsTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if host := r.URL.Hostname(); r.URL.Scheme != "https" && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return nil, fmt.Errorf("%s: %w", r.URL.Redacted(), errPlainHTTP)
	}
	return g.next.RoundTrip(r)
}

// boundedTransport ends each response after limit.Response bytes, except to
// requests of getFrom, whose callers have bounds of their own.
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
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answers %d %s", e.url, e.status, http.StatusText(e.status))
}

// Get requests url and returns a response whose body is the whole content. Any
// other status is an error. The client must use a transport from RequireTLS.
func Get(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	return getFrom(ctx, client, url, 0)
}

// getFrom requests the content of url from byte from on. A server that ignores the
// range answers with status 200 and the whole content.
func getFrom(ctx context.Context, client *http.Client, url string, from int64) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// Transparent gzip would change the bytes whose digest is known.
	r.Header.Set(encodingHeader, "identity")
	if from > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK || from > 0 && resp.StatusCode == http.StatusPartialContent {
		return resp, nil
	}
	_ = resp.Body.Close()
	return nil, &statusError{r.URL.Redacted(), resp.StatusCode}
}

// ErrUnusable marks content that was received as published but cannot be used, so
// another attempt does not help.
var ErrUnusable = errors.New("it cannot be used")

// Retry calls do until it succeeds, fails permanently, or has used all attempts.
// If do reports progress (further), the count of attempts starts again. first is
// the first pause between attempts; each further pause is three times as long, up
// to 15 seconds. 0 means 1 second.
func Retry(ctx context.Context, first time.Duration, do func() (further bool, err error)) error {
	if first <= 0 {
		first = time.Second
	}
	for n, pause := 1, first; ; n++ {
		further, err := do()
		if err == nil || cannotRetry(err) || ctx.Err() != nil {
			return err
		}
		if further {
			n, pause = 1, first
		}
		if n == maxAttempts {
			return fmt.Errorf("%w (after %d attempts)", err, n)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = min(3*pause, max(15*time.Second, first))
	}
}

// cannotRetry reports whether another attempt cannot fix err.
func cannotRetry(err error) bool {
	status := 0
	var own *statusError
	var registry *transport.Error
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong), errors.Is(err, errPlainHTTP), errors.Is(err, ErrUnusable), errors.Is(err, errDisk), errors.As(err, &certificate):
		return true
	case errors.As(err, &name):
		return name.IsNotFound
	case errors.As(err, &own):
		status = own.status
	case errors.As(err, &registry):
		status = registry.StatusCode
	}
	return status > 0 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}
