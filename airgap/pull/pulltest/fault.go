package pulltest

import (
	"io"
	"net/http"
	"strconv"
	"time"
)

// Handler answers a request in place of next, or changes how next answers.
type Handler func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc)

// Fault returns how to answer a request; nil for the usual answer.
type Fault func(r Request) Handler

// On returns a fault of the first times requests of each path at a server, except
// for HEAD.
func On(server Server, times int, h Handler) Fault {
	return func(r Request) Handler {
		if r.Server == server && r.Nth <= times && r.Method == http.MethodGet {
			return h
		}
		return nil
	}
}

// Always is a number of times that no test reaches.
const Always = 1 << 30

// maxSilence is how long a server sends nothing, in tests whose client waits.
const maxSilence = 30 * time.Second

// Stop sends n bytes and then nothing, on a connection that stays open.
func Stop(n int) Handler {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		short := &shortWriter{w, n}
		if next(short, r); short.n > 0 {
			return // the content is shorter
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(maxSilence):
		}
		panic(http.ErrAbortHandler)
	}
}

// Cut sends n bytes and ends the connection.
func Cut(n int) Handler {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		next(&shortWriter{w, n}, r)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// Drip sends 20 bytes a second, for longer than a test waits.
func Drip(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	w.Header().Set("Content-Type", "application/octet-stream")
	for {
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// Status answers with a status, and a Retry-After header unless it is "".
func Status(code int, retryAfter string) Handler {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(code)
	}
}

// Page answers with a web page, like a proxy that requires a login.
func Page(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, "<html>log in first</html>")
}

// Alter changes the first byte of the content.
func Alter(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	next(&alteringWriter{ResponseWriter: w}, r)
}

// Loop redirects without end, to a new URL of the same server each time.
func Loop(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	http.Redirect(w, r, r.URL.Path+"?n="+strconv.Itoa(n+1), http.StatusFound)
}

// WithoutRanges ignores the Range header.
func WithoutRanges(then Handler) Handler {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		r.Header.Del("Range")
		if then != nil {
			then(w, r, next)
			return
		}
		next(w, r)
	}
}

// shortWriter drops everything after the first n bytes.
type shortWriter struct {
	http.ResponseWriter
	n int
}

func (w *shortWriter) Write(p []byte) (int, error) {
	part := p[:min(w.n, len(p))]
	w.n -= len(part)
	if _, err := w.ResponseWriter.Write(part); err != nil {
		return 0, err
	}
	return len(p), nil
}

// alteringWriter changes the first byte.
type alteringWriter struct {
	http.ResponseWriter
	begun bool
}

func (w *alteringWriter) Write(p []byte) (int, error) {
	changed := append([]byte{}, p...)
	if !w.begun && len(p) > 0 {
		changed[0] ^= 1
		w.begun = true
	}
	return w.ResponseWriter.Write(changed)
}
