package host

import (
	"io"
	"strings"
	"sync"
)

// tailBuffer keeps the last max bytes that were written to it.
type tailBuffer struct {
	mu  sync.Mutex
	max int
	buf []byte
}

// Write removes what is too much once it is as much as what is kept, so that long outputs are not copied at each write.
func (t *tailBuffer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*t.max {
		t.buf = append(t.buf[:0], t.kept()...)
	}
	return len(p), nil
}

// kept returns the last max bytes; t.mu is held.
func (t *tailBuffer) kept() []byte { return t.buf[max(0, len(t.buf)-t.max):] }

// Bytes returns the kept bytes.
func (t *tailBuffer) Bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept()
}

// String returns the kept text without surrounding space.
func (t *tailBuffer) String() string { return strings.TrimSpace(string(t.Bytes())) }

// lockedWriter lets stdout and stderr share one writer.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
