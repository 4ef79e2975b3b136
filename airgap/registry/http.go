package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// attempts is how often something is tried in all; with the pauses between
// them that bridges about 40 seconds.
const attempts = 5

// guard lets plain HTTP through to this machine only, redirects included.
type guard struct{ next http.RoundTripper }

// errPlain is a request that would have gone over the network in the clear.
var errPlain = errors.New("plain http is refused: only this machine itself may be asked without TLS")

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if host := r.URL.Hostname(); r.URL.Scheme != "https" && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return nil, fmt.Errorf("%s: %w", r.URL.Redacted(), errPlain)
	}
	return g.next.RoundTrip(r)
}

// statusError is an answer that is not the content.
type statusError struct {
	url    string
	status int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answers %d %s", e.url, e.status, http.StatusText(e.status))
}

// get asks for a download; the body of the answer is the content or there is an error.
func (f *fetcher) get(ctx context.Context, url string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// Transparent gzip would hide the bytes whose checksum is known.
	r.Header.Set("Accept-Encoding", "identity")
	resp, err := (&http.Client{Transport: f.http}).Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, &statusError{url, resp.StatusCode}
	}
	return resp, nil
}

// retry runs do until it succeeds, fails for good or has had its attempts.
func (f *fetcher) retry(ctx context.Context, do func() error) error {
	pause := f.req.Backoff
	if pause <= 0 {
		pause = time.Second
	}
	for n := 1; ; n++ {
		err := do()
		if err == nil || permanent(err) || ctx.Err() != nil {
			return err
		}
		if n == attempts {
			return fmt.Errorf("%w (after %d attempts)", err, n)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause *= 3
	}
}

// permanent tells errors that a repetition cannot mend.
func permanent(err error) bool {
	status := 0
	var own *statusError
	var registry *transport.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errPlain), errors.Is(err, errUnusable), errors.As(err, &certificate):
		return true
	case errors.As(err, &own):
		status = own.status
	case errors.As(err, &registry):
		status = registry.StatusCode
	}
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}

// errUnusable is content that arrived as it was published and does not help.
var errUnusable = errors.New("it cannot be used")

// counted drives the meter by what goes through it.
type counted struct {
	io.Reader
	f *fetcher
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.f.meter.Add(n)
	return n, err
}
