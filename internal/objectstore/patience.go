package objectstore

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// The time limits of a store. A request whose network traffic stands still ends after answerTimeout; after slowAfter the user
// is told what is waited for. A connection that fails is tried again retries times.
const (
	dialTimeout   = 10 * time.Second
	slowAfter     = 5 * time.Second
	answerTimeout = time.Minute
	retries       = 3
)

// silentError is the error of a request to a store that accepts it and then sends nothing.
type silentError struct{ limit time.Duration }

// Error returns the cause.
func (e silentError) Error() string { return "no answer in " + seconds(e.limit) }

// seconds returns a duration in messages.
func seconds(d time.Duration) string { return fmt.Sprintf("%.4g seconds", d.Seconds()) }

// watchedRequests are the requests to a store that have to make progress. Once one of them has not, the others fail at
// once: the client would repeat it, and each of several requests would wait again.
type watchedRequests struct {
	http.RoundTripper
	host        string // name of the store, for messages
	slow, limit time.Duration
	note        func(text string) // nil for none
	noted       sync.Once
	silent      atomic.Bool
}

// RoundTrip sends a request.
func (w *watchedRequests) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.silent.Load() {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, silentError{w.limit}
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	s := &stopwatch{
		slow: time.AfterFunc(w.slow, w.sayWaiting),
		limit: time.AfterFunc(w.limit, func() {
			w.silent.Store(true)
			cancel(silentError{w.limit})
		}),
		slowAfter: w.slow, limitAfter: w.limit,
	}
	sent := r.WithContext(ctx)
	if r.Body != nil && r.ContentLength != 0 {
		sent.Body = requestBody{r.Body, s}
	}
	res, err := w.RoundTripper.RoundTrip(sent)
	s.endRequest()
	if err != nil {
		err = w.cause(ctx, err)
		cancel(nil)
		return nil, err
	}
	res.Body = &responseBody{ReadCloser: res.Body, stopwatch: s, cause: func(err error) error { return w.cause(ctx, err) }, cancel: func() { cancel(nil) }}
	return res, nil
}

// cause returns the silentError with which the request of ctx was ended, or else err.
func (w *watchedRequests) cause(ctx context.Context, err error) error {
	if silent, ok := context.Cause(ctx).(silentError); ok { //nolint:errorlint // it is not wrapped
		return silent
	}
	return err
}

// sayWaiting tells the user once what is waited for.
func (w *watchedRequests) sayWaiting() {
	w.noted.Do(func() {
		if w.note != nil {
			w.note(fmt.Sprintf("the object store %s has not answered for %s; waiting for up to %s", w.host, seconds(w.slow), seconds(w.limit)))
		}
	})
}

// stopwatch measures how long the traffic of one request stands still: not while this program prepares what is sent, or uses
// what was received.
type stopwatch struct {
	mu                    sync.Mutex
	slow, limit           *time.Timer
	slowAfter, limitAfter time.Duration
	answered              bool // the request is sent, or the store has answered before its end
}

// start measures from now on. sending means that the request is still sent.
func (s *stopwatch) start(sending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sending && s.answered { // the client still reads what it does not need any more
		return
	}
	s.slow.Reset(s.slowAfter)
	s.limit.Reset(s.limitAfter)
}

// stop stops measuring.
func (s *stopwatch) stop(sending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sending && s.answered {
		return
	}
	s.slow.Stop()
	s.limit.Stop()
}

// endRequest stops measuring: the store has answered.
func (s *stopwatch) endRequest() {
	s.stop(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answered = true
}

// requestBody is what is sent to a store.
type requestBody struct {
	io.ReadCloser
	*stopwatch
}

// Read reads what is sent next: what was read before is sent by then.
func (b requestBody) Read(p []byte) (int, error) {
	b.stop(true)
	defer b.start(true)
	return b.ReadCloser.Read(p)
}

// responseBody is what a store sends.
type responseBody struct {
	io.ReadCloser
	*stopwatch
	cause  func(error) error
	cancel func()
}

// Read reads what the store sends next.
func (b *responseBody) Read(p []byte) (int, error) {
	b.start(false)
	defer b.stop(false)
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // as readers return it
		err = b.cause(err)
	}
	return n, err
}

// Close ends the request.
func (b *responseBody) Close() error {
	b.stop(false)
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}
