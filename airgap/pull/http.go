package pull

import (
	"context"
	"io"
	"net/http"

	"github.com/plinthdev/plinth/airgap/fetch"
)

// openURL requests url and returns the response; anything but a successful one is an
// error.
func (f *fetcher) openURL(ctx context.Context, url string) (*http.Response, error) {
	return fetch.Get(ctx, &http.Client{Transport: f.transport}, url)
}

// retryFetch runs do until it succeeds, fails permanently or has used up its attempts.
func (f *fetcher) retryFetch(ctx context.Context, do func() error) error {
	return fetch.Retry(ctx, f.req.Backoff, func() (bool, error) { return false, do() })
}

// progressReader reports the bytes read through it as progress.
type progressReader struct {
	io.Reader
	f *fetcher
}

func (c progressReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.f.meter.Add(n)
	return n, err
}
