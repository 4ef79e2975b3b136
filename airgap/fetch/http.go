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
)

// attempts is how often something is tried in all without any progress; with
// the pauses between them that bridges about 40 seconds.
const attempts = 5

// Guard lets plain HTTP through to this machine only, redirects included.
func Guard(next http.RoundTripper) http.RoundTripper { return guard{next} }

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

// Get asks for a whole document: the body of the answer is the content, or
// there is an error. The client's transport is to be a Guard.
func Get(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	return get(ctx, client, url, 0)
}

// get asks for what begins at byte from. An answer that ignores that is 200.
func get(ctx context.Context, client *http.Client, url string, from int64) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// Transparent gzip would hide the bytes whose checksum is known.
	r.Header.Set("Accept-Encoding", "identity")
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

// ErrUnusable is content that arrived as it was published and does not help:
// asking again would not either.
var ErrUnusable = errors.New("it cannot be used")

// Retry runs do until it succeeds, fails for good or has had its attempts. do
// tells whether it came any further; if so, the attempts begin anew. first is
// the first pause between attempts, tripled each time up to 15 seconds; 0 means
// one second.
func Retry(ctx context.Context, first time.Duration, do func() (further bool, err error)) error {
	if first <= 0 {
		first = time.Second
	}
	for n, pause := 1, first; ; n++ {
		further, err := do()
		if err == nil || permanent(err) || ctx.Err() != nil {
			return err
		}
		if further {
			n, pause = 1, first
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
		pause = min(3*pause, max(15*time.Second, first))
	}
}

// permanent tells errors that a repetition cannot mend.
func permanent(err error) bool {
	status := 0
	var own *statusError
	var registry *transport.Error
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	switch {
	case errors.Is(err, errPlain), errors.Is(err, ErrUnusable), errors.Is(err, errDisk), errors.As(err, &certificate):
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
