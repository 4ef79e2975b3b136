package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// minProgress is how many bytes within Options.Stall count as progress.
const minProgress = 16 << 10

// errStalled is the reason why a stalled request was canceled.
var errStalled = errors.New("almost no data arrived")

// stallWatcher cancels a request that makes no progress.
type stallWatcher struct {
	ctx   context.Context
	bytes *atomic.Int64
	limit time.Duration
}

// watchStall returns a watcher with a context for one request. The context is
// canceled when fewer than minProgress bytes arrive within limit.
func watchStall(ctx context.Context, limit time.Duration) (w stallWatcher, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w = stallWatcher{ctx, &atomic.Int64{}, limit}
	go func() {
		ticker := time.NewTicker(limit)
		defer ticker.Stop()
		for seen := int64(0); ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			now := w.bytes.Load()
			if now-seen < minProgress {
				cancel(errStalled)
			}
			seen = now
		}
	}()
	return w, func() { cancel(nil) }
}

// wrapReader returns r with its bytes counted as progress.
func (w stallWatcher) wrapReader(r io.Reader) io.Reader { return watchedReader{r, w.bytes} }

// watchedReader counts the bytes read.
type watchedReader struct {
	io.Reader
	bytes *atomic.Int64
}

func (r watchedReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.bytes.Add(int64(n))
	return n, err
}

// wrapError adds the URL to err, and the stall if that is why the request failed. Its text has no secret of a URL.
func (w stallWatcher) wrapError(err error, url string) error {
	var status *statusError
	err, url = cleanUp(err), cleanText(url)
	switch {
	case errors.Is(context.Cause(w.ctx), errStalled):
		return fmt.Errorf("%s stalls: %w in %s", url, errStalled, w.limit)
	case errors.As(err, &status): // it names the URL, which net/http would repeat
		return status
	case strings.Contains(err.Error(), url):
		return err
	}
	return fmt.Errorf("%s: %w", url, err)
}
