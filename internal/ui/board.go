package ui

import (
	"time"

	"github.com/plinthdev/plinth/internal/step"
)

// board is what is known of a run: the steps that are running now, in the
// order in which they began. Its owner guards it.
type board struct {
	verb    string
	began   time.Time // time of the first event
	count   int       // steps in the verb
	ended   int       // steps that are over
	running []*task
}

// task is one running step.
type task struct {
	last    step.Event // newest event; Message and bytes carry over
	began   time.Time
	shown   time.Time // when a plain line last told of it
	metered time.Time // when bytes were first told
	base    int64     // bytes at that time
}

// apply takes e in and returns the step that it ended, or nil.
func (b *board) apply(e step.Event) *task {
	if b.began.IsZero() {
		b.began = e.Time
	}
	b.verb, b.count = e.Verb, max(b.count, e.Count)
	t, at := b.find(e.Step)
	if t == nil {
		t = &task{began: e.Time, shown: e.Time}
		t.last.Title, t.last.Index, t.last.Count = e.Title, e.Index, e.Count
		b.running = append(b.running, t)
		at = len(b.running) - 1
	}
	t.take(e)
	switch e.State {
	case step.Skipped, step.Finished, step.Failed:
		if e.Count > 0 { // else it is told of beside the list
			b.ended++
		}
		b.running = append(b.running[:at], b.running[at+1:]...)
		return t
	default:
		return nil
	}
}

func (b *board) find(id string) (*task, int) {
	for i, t := range b.running {
		if t.last.Step == id {
			return t, i
		}
	}
	return nil, -1
}

// take merges e into t. Bytes never go back within one total: parallel
// workers may report out of order.
func (t *task) take(e step.Event) {
	if e.State == step.Progress && e.Message == "" {
		e.Message = t.last.Message
	}
	if e.Total == t.last.Total && e.Bytes < t.last.Bytes {
		e.Bytes = t.last.Bytes
	}
	if e.Total > 0 && e.Bytes > e.Total {
		e.Bytes = e.Total
	}
	if t.metered.IsZero() && e.Bytes > 0 {
		t.metered, t.base = e.Time, e.Bytes
	}
	t.last = e
}

// rate is bytes a second since bytes were first told; 0 when too early to say.
func (t *task) rate() float64 {
	took := t.last.Time.Sub(t.metered).Seconds()
	if t.metered.IsZero() || took < 1 {
		return 0
	}
	return float64(t.last.Bytes-t.base) / took
}
