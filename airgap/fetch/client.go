package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/plinthdev/plinth/airgap/limit"
)

// Options are the settings of a Client. The zero value is good for everything but
// tests; Note may be set.
type Options struct {
	Transport http.RoundTripper // nil means http.DefaultTransport, with its proxies and certificate authorities
	Backoff   time.Duration     // first pause between attempts, tripled each time up to 15 seconds; 0 means 1 second
	Stall     time.Duration     // how long a connection may deliver almost no data; 0 means 30 seconds
	Note      func(text string) // receives why another attempt starts, and what is done instead of what failed; may be nil
	Login     *Login            // how to log in to a registry; nil for the credentials of `docker login`
}

// Login is a user of a registry. The zero value logs in as no user.
type Login struct{ Username, Password string }

// note passes a formatted text to o.Note.
func (o Options) note(format string, args ...any) {
	if o.Note != nil {
		o.Note(fmt.Sprintf(format, args...))
	}
}

// Client downloads content over HTTPS. It refuses plain HTTP except to this
// machine, ends silent connections, and resumes and retries.
type Client struct {
	http *http.Client
	Options
}

// NewClient returns a client with the settings o.
func NewClient(o Options) *Client {
	o.Transport = cmp.Or[http.RoundTripper](o.Transport, http.DefaultTransport)
	o.Stall = cmp.Or(o.Stall, 30*time.Second)
	return &Client{http: &http.Client{Transport: requireTLS(o.Transport)}, Options: o}
}

// Document is a small file that was read completely.
type Document struct {
	Data      []byte
	MediaType string // without parameters; "" if the server declares none
}

// GetDocument returns the content at url, at most maxSize bytes, with retries. accept
// is the value of the Accept header; "" for none.
func (c *Client) GetDocument(ctx context.Context, url, accept string, maxSize int64) (doc Document, err error) {
	err = c.Retry(ctx, func() (bool, error) {
		watched, stop := watchStall(ctx, c.Stall)
		defer stop()
		doc, err = c.getDocument(watched, url, accept, maxSize)
		if err != nil {
			return false, watched.wrapError(err, url)
		}
		return false, nil
	})
	return doc, err
}

// getDocument implements one attempt of GetDocument.
func (c *Client) getDocument(watched stallWatcher, url, accept string, maxSize int64) (Document, error) {
	resp, err := c.get(watched.ctx, request{url: url, accept: accept})
	if err != nil {
		return Document{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.ContentLength > maxSize {
		return Document{}, fmt.Errorf("it has %d bytes, the limit is %d: %w", resp.ContentLength, maxSize, ErrUnusable)
	}
	data, err := io.ReadAll(io.LimitReader(watched.wrapReader(resp.Body), maxSize+1))
	if err == nil && int64(len(data)) > maxSize {
		err = fmt.Errorf("it has more than %d bytes: %w", maxSize, ErrUnusable)
	}
	return Document{data, mediaType(resp)}, err
}

// GetSize returns the size in bytes of the content at url, with retries. It does not
// download the content. A size above limit.Download is an error.
func (c *Client) GetSize(ctx context.Context, url string) (size int64, err error) {
	err = c.Retry(ctx, func() (bool, error) {
		watched, stop := watchStall(ctx, c.Stall)
		defer stop()
		resp, err := c.get(watched.ctx, request{method: http.MethodHead, url: url})
		if err != nil {
			return false, watched.wrapError(err, url)
		}
		switch size = resp.ContentLength; {
		case size < 0:
			err = fmt.Errorf("%s does not state its size: %w", CleanURL(url), ErrUnusable)
		case size > limit.Download:
			err = fmt.Errorf("%s states %d bytes, the limit is %d: %w", CleanURL(url), size, int64(limit.Download), ErrUnusable)
		}
		return false, errors.Join(err, resp.Body.Close())
	})
	return size, err
}

// request is a GET or HEAD request.
type request struct {
	method string // "" means GET
	url    string
	accept string // Accept header; "" for none
	from   int64  // first byte to send
}

// get sends a request and returns a response whose body is the content from byte
// r.from on; a server that ignores the range answers with status 200 and the whole
// content. Any other status, and a page for browsers, is an error.
func (c *Client) get(ctx context.Context, r request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, nil)
	if err != nil {
		return nil, err
	}
	// Transparent gzip would change the bytes whose digest is known.
	req.Header.Set(encodingHeader, "identity")
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	if r.from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", r.from))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode != http.StatusOK && (r.from == 0 || resp.StatusCode != http.StatusPartialContent):
		err = newStatusError(resp)
	case mediaType(resp) == "text/html":
		err = fmt.Errorf("%s answers with an HTML page (of a proxy or a login?): %w", withoutQuery(resp.Request.URL), ErrUnusable)
	default:
		return resp, nil
	}
	return nil, errors.Join(err, resp.Body.Close())
}

// mediaType returns the media type that a response declares, without parameters.
func mediaType(resp *http.Response) string {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return kind
}
