package registry

import (
	"context"
	"io"
	"net/http"

	"github.com/plinthdev/plinth/airgap/fetch"
)

// get asks for a download; the body of the answer is the content or there is an error.
func (f *fetcher) get(ctx context.Context, url string) (*http.Response, error) {
	return fetch.Get(ctx, &http.Client{Transport: f.http}, url)
}

// retry runs do until it succeeds, fails for good or has had its attempts.
func (f *fetcher) retry(ctx context.Context, do func() error) error {
	return fetch.Retry(ctx, f.req.Backoff, func() (bool, error) { return false, do() })
}

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
