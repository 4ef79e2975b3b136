package ui

import (
	"encoding/json"
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
	heartbeat  = 10 * time.Second
	eventPause = 500 * time.Millisecond
)

// ticker calls a function periodically until it is stopped.
type pulse struct {
	tick *time.Ticker
	stop chan struct{}
	done chan struct{}
	once sync.Once
}

func startPulse(tick *time.Ticker, beat func()) *pulse {
	p := &pulse{tick: tick, stop: make(chan struct{}), done: make(chan struct{})}
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
func (p *pulse) end() {
	p.once.Do(func() {
		p.tick.Stop()
		close(p.stop)
	})
	<-p.done
}

// plainRenderer writes one line per change of state, and heartbeats for steps
// that take long.
type plain struct {
	mu      sync.Mutex
	w       firstError
	verbose bool
	board   board
	pulse   *pulse
}

var _ Renderer = (*plain)(nil)

func newPlain(o Options, tick *time.Ticker) *plain {
	p := &plain{w: firstError{w: o.Err}, verbose: o.Mode.Verbose}
	p.pulse = startPulse(tick, func() { p.beat(o.Now()) })
	return p
}

// writeHeartbeats writes a line for each step without a line for too long or, if
// verbose, with news.
func (p *plain) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.board.running {
		news := p.verbose && t.last.Time.After(t.shown)
		if now.Sub(t.shown) < heartbeat && !news {
			continue
		}
		t.shown = now
		state := details(t)
		if state == "" {
			state = "still running"
		}
		fmt.Fprintf(&p.w, "%s: %s (%s so far)\n", label(t.last), state, Duration(now.Sub(t.began)))
	}
}

func (p *plain) Event(e step.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.Message = oneLine(e.Message)
	if over := p.board.apply(e); over != nil {
		fmt.Fprintf(&p.w, "%s: %s\n", label(over.last), outcome(over))
	} else if e.State == step.Started {
		fmt.Fprintf(&p.w, "%s\n", join(": ", label(e), e.Message))
	}
}

func (p *plain) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(&p.w, text)
}

func (p *plain) Close() error {
	p.pulse.end()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.close()
}

// eventRenderer writes each event as one line of JSON. It writes progress at
// most once per eventInterval, but always the latest while the step runs.
type events struct {
	mu    sync.Mutex
	w     firstError
	board board
	pulse *pulse
	notes silent
}

var _ Renderer = (*events)(nil)

func newEvents(out, notes io.Writer, tick *time.Ticker) *events {
	j := &events{w: firstError{w: out}, notes: silent{w: notes}}
	j.pulse = startPulse(tick, j.beat)
	return j
}

// writePending writes progress that was held back.
func (j *events) beat() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.board.running {
		if t.last.Time.After(t.shown) {
			j.write(t)
		}
	}
}

// writeEvent writes the latest event of a step.
func (j *events) write(t *task) {
	t.shown = t.last.Time
	_ = json.NewEncoder(&j.w).Encode(t.last) // w keeps the error
}

func (j *events) Event(e step.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.board.apply(e)
	if t == nil {
		t, _ = j.board.find(e.Step)
	}
	if e.State != step.Progress || e.Time.Sub(t.shown) >= eventPause {
		j.write(t)
	}
}

func (j *events) Note(text string) { j.notes.Note(text) }

func (j *events) Close() error {
	j.pulse.end()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.w.close()
}

// notesOnly writes notes and drops events.
type silent struct {
	mu sync.Mutex
	w  io.Writer
}

var _ Renderer = (*silent)(nil)

func (s *silent) Event(step.Event) {}

func (s *silent) Note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.w, text)
}

func (s *silent) Close() error { return nil }

// stickyWriter keeps the first error of writing and writes nothing after it.
type firstError struct {
	w      io.Writer
	err    error
	closed bool
}

func (f *firstError) Write(b []byte) (int, error) {
	if f.err != nil || f.closed {
		return len(b), nil
	}
	_, f.err = f.w.Write(b)
	return len(b), nil
}

func (f *firstError) close() error {
	f.closed = true
	return f.err
}
