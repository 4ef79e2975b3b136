package ui

import (
	"time"

	"github.com/plinthdev/plinth/internal/step"
)

// tracker holds the state of a run: the running steps in the order in which
// they started. It is not safe for concurrent use.
type tracker struct {
	verb       string
	startedAt  time.Time // time of the first event
	count      int       // steps in the verb
	endedCount int       // steps that are done; neither failed nor stopped ones
	running    []*task
	estimate   *estimator // nil before the first numbered step
}

// task is one running step.
type task struct {
	last       step.Event // latest event; Message and Bytes carry over
	startedAt  time.Time
	shownAt    time.Time // when the step was last written
	bytesSince time.Time // when bytes were first reported
	firstBytes int64     // bytes at that time
}

// applyEvent updates the state with e and returns the step that e ended, or nil.
func (b *tracker) applyEvent(e step.Event) *task {
	if b.startedAt.IsZero() {
		b.startedAt = e.Time
	}
	b.verb, b.count = e.Verb, max(b.count, e.Count)
	if e.Count > 0 {
		if b.estimate == nil {
			b.estimate = newEstimator(e.Verb)
		}
		b.estimate.applyEvent(e)
	}
	t, at := b.findTask(e.Step)
	if t == nil {
		t = &task{startedAt: e.Time, shownAt: e.Time}
		t.last.Title, t.last.Index, t.last.Count = e.Title, e.Index, e.Count
		b.running = append(b.running, t)
		at = len(b.running) - 1
	}
	t.mergeEvent(e)
	switch e.State {
	case step.Skipped, step.Finished, step.Failed:
		if e.Count > 0 && e.State != step.Failed { // without a count it is not part of the numbered list
			b.endedCount++
		}
		b.running = append(b.running[:at], b.running[at+1:]...)
		return t
	default:
		return nil
	}
}

// findTask returns the running step with an id and its index, or nil and -1.
func (b *tracker) findTask(id string) (*task, int) {
	for i, t := range b.running {
		if t.last.Step == id {
			return t, i
		}
	}
	return nil, -1
}

// mergeEvent merges e into t. Bytes never decrease within one total, because
// parallel workers can report out of order.
func (t *task) mergeEvent(e step.Event) {
	if e.State == step.Progress && e.Message == "" {
		e.Message = t.last.Message
	}
	if e.Total == t.last.Total && e.Bytes < t.last.Bytes {
		e.Bytes = t.last.Bytes
	}
	if e.Total > 0 && e.Bytes > e.Total {
		e.Bytes = e.Total
	}
	if t.bytesSince.IsZero() && e.Bytes > 0 {
		t.bytesSince, t.firstBytes = e.Time, e.Bytes
	}
	t.last = e
}

// bytesPerSecond returns the rate since bytes were first reported, 0 in the
// first second.
func (t *task) bytesPerSecond() float64 {
	took := t.last.Time.Sub(t.bytesSince).Seconds()
	if t.bytesSince.IsZero() || took < 1 {
		return 0
	}
	return float64(t.last.Bytes-t.firstBytes) / took
}
