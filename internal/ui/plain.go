package ui

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/step"
)

// heartbeatInterval is the longest time without a plain line for a running
// step. eventInterval is the shortest time between two progress events of a step:
// a step may report every block that it copies.
const (
	heartbeatInterval = 10 * time.Second
	eventInterval     = 500 * time.Millisecond
)

// ticker calls a function periodically until it is stopped.
type ticker struct {
	tick *time.Ticker
	stop chan struct{}
	done chan struct{}
	once sync.Once
}

func startTicker(tick *time.Ticker, beat func()) *ticker {
	p := &ticker{tick: tick, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for {
			select {
			case <-p.tick.C:
				beat()
			case <-p.stop:
				return
			}
		}
	}()
	return p
}

// stopAndWait stops the ticker and waits until the last call has returned.
func (p *ticker) stopAndWait() {
	p.once.Do(func() {
		p.tick.Stop()
		close(p.stop)
	})
	<-p.done
}

// plainRenderer writes one line per change of state, and heartbeats for steps
// that take long.
type plainRenderer struct {
	mu      sync.Mutex
	w       stickyWriter
	verbose bool
	width   int // columns; 0 if unknown
	tracker tracker
	ticker  *ticker
}

var _ Renderer = (*plainRenderer)(nil)

func newPlain(o Options, tick *time.Ticker) *plainRenderer {
	p := &plainRenderer{w: stickyWriter{w: o.Err}, verbose: o.Mode.Verbose, width: o.Width}
	p.ticker = startTicker(tick, func() { p.writeHeartbeats(o.Now()) })
	return p
}

// writeHeartbeats writes a line for each step without a line for too long or, if
// verbose, with news.
func (p *plainRenderer) writeHeartbeats(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tracker.running {
		news := p.verbose && t.last.Time.After(t.shownAt)
		if now.Sub(t.shownAt) < heartbeatInterval && !news {
			continue
		}
		t.shownAt = now
		state := describeProgress(t)
		if state == "" {
			state = "still running"
		}
		p.printf("%s: %s (%s so far)\n", stepLabel(t.last), state, FormatDuration(now.Sub(t.startedAt)))
	}
}

// printf writes a line.
func (p *plainRenderer) printf(format string, args ...any) {
	fmt.Fprint(&p.w, Wrap(fmt.Sprintf(format, args...), p.width))
}

func (p *plainRenderer) Event(e step.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e = cleanEvent(e)
	if over := p.tracker.applyEvent(e); over != nil {
		p.printf("%s: %s\n", stepLabel(over.last), describeOutcome(over))
	} else if e.State == step.Started {
		p.printf("%s\n", joinNonEmpty(": ", stepLabel(e), e.Message))
	}
}

func (p *plainRenderer) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(&p.w, text)
}

func (p *plainRenderer) Close() error {
	p.ticker.stopAndWait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.closeWriter()
}

// eventRenderer writes each event as one line of JSON. It writes progress at
// most once per eventInterval, but always the latest while the step runs.
type eventRenderer struct {
	mu      sync.Mutex
	w       stickyWriter
	tracker tracker
	ticker  *ticker
	notes   notesOnly
}

var _ Renderer = (*eventRenderer)(nil)

func newEvents(out, notes io.Writer, tick *time.Ticker) *eventRenderer {
	j := &eventRenderer{w: stickyWriter{w: out}, notes: notesOnly{w: notes}}
	j.ticker = startTicker(tick, j.writePending)
	return j
}

// writePending writes progress that was held back.
func (j *eventRenderer) writePending() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.tracker.running {
		if t.last.Time.After(t.shownAt) {
			j.writeEvent(t)
		}
	}
}

// writeEvent writes the latest event of a step.
func (j *eventRenderer) writeEvent(t *task) {
	t.shownAt = t.last.Time
	_ = WriteJSON(&j.w, t.last) // w keeps the error
}

func (j *eventRenderer) Event(e step.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.tracker.applyEvent(e)
	if t == nil {
		t, _ = j.tracker.findTask(e.Step)
	}
	if e.State != step.Progress || e.Time.Sub(t.shownAt) >= eventInterval {
		j.writeEvent(t)
	}
}

func (j *eventRenderer) Note(text string) { j.notes.Note(text) }

func (j *eventRenderer) Close() error {
	j.ticker.stopAndWait()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.w.closeWriter()
}

// notesOnly writes notes and drops events.
type notesOnly struct {
	mu sync.Mutex
	w  io.Writer
}

var _ Renderer = (*notesOnly)(nil)

func (s *notesOnly) Event(step.Event) {}

func (s *notesOnly) Note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.w, text)
}

func (s *notesOnly) Close() error { return nil }

// stickyWriter keeps the first error of writing and writes nothing after it.
type stickyWriter struct {
	w      io.Writer
	err    error
	closed bool
}

func (f *stickyWriter) Write(b []byte) (int, error) {
	if f.err != nil || f.closed {
		return len(b), nil
	}
	_, f.err = f.w.Write(b)
	return len(b), nil
}

func (f *stickyWriter) closeWriter() error {
	f.closed = true
	return f.err
}
