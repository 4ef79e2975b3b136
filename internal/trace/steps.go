// Package trace turns what a run waited for into a trace in Chrome's trace event format, and finds its critical path.
package trace

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/step"
)

// Step is a step of a run, as its events tell.
type Step struct {
	ID      string
	Title   string
	State   step.EventState // how it ended; step.Started while it runs
	Start   time.Time       // after its check
	End     time.Time
	Affects []string // as of step.Step
	Waits   []Wait
}

// Wait is a time in which a step waited for one reason.
type Wait struct {
	Reason     string
	Start, End time.Time
}

// Recorder collects the steps of a run from their events. It is safe for concurrent use.
type Recorder struct {
	mu    sync.Mutex
	steps []Step
}

// Event records e. The message of progress without bytes is a reason to wait.
func (r *Recorder) Event(e step.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.steps, func(s Step) bool { return s.ID == e.Step && s.State == step.Started })
	if i < 0 {
		i = len(r.steps)
		r.steps = append(r.steps, Step{ID: e.Step, Title: e.Title, Start: e.Time, Affects: e.Affects})
	}
	s := &r.steps[i]
	s.State, s.End = e.State, e.Time
	if e.State == step.Progress {
		s.State = step.Started
		if n := len(s.Waits); n > 0 && s.Waits[n-1].Reason == e.Message {
			return
		}
	}
	if n := len(s.Waits); n > 0 && s.Waits[n-1].End.IsZero() {
		s.Waits[n-1].End = e.Time
	}
	if e.State == step.Progress && e.Message != "" && e.Total == 0 && e.Bytes == 0 {
		s.Waits = append(s.Waits, Wait{Reason: e.Message, Start: e.Time})
	}
}

// Steps returns the steps up to now, in the order in which they started. A step that still runs ends at now.
func (r *Recorder) Steps(now time.Time) []Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	steps := slices.Clone(r.steps)
	for i := range steps {
		s := &steps[i]
		s.Waits = slices.Clone(s.Waits)
		if s.State == step.Started {
			s.End = now
		}
		if n := len(s.Waits); n > 0 && s.Waits[n-1].End.IsZero() {
			s.Waits[n-1].End = s.End
		}
	}
	return steps
}

// waitsFor reports whether the step waited for o: a reason names it, or the step waits and changes its namespace.
func (s Step) waitsFor(o *Object) bool {
	return len(s.Waits) > 0 && s.changesNamespace(o.Namespace) ||
		slices.ContainsFunc(s.Waits, func(w Wait) bool { return mentions(w.Reason, o) })
}

// changesNamespace reports whether the step changes objects of a namespace.
func (s Step) changesNamespace(namespace string) bool {
	return namespace != "" && slices.ContainsFunc(s.Affects, func(a string) bool {
		return a == "namespace "+namespace || strings.HasPrefix(a, "release "+namespace+"/")
	})
}

// mentions reports whether reason names the pod or node o: "node a: KubeletNotReady".
func mentions(reason string, o *Object) bool {
	name := strings.ToLower(o.Kind) + " " + o.Name
	_, after, found := strings.Cut(reason, name)
	return found && (o.Kind == Pod || o.Kind == Node) && strings.IndexFunc(after, isNameRune) != 0
}

// isNameRune reports whether r can be part of the name of an object.
func isNameRune(r rune) bool {
	return r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z'
}
