package ui

import (
	_ "embed"
	"encoding/json"
	"time"

	"github.com/plinthdev/plinth/internal/step"
)

// recordedDurations has the durations of steps on earlier runs, by verb and step: medians of installs of the example's
// bundle on a host with two processors. A step that is not in it depends on the vendor's charts or application.
//
//go:embed durations.json
var recordedDurations []byte

// stepDuration is how long a step took on earlier runs, in seconds.
type stepDuration struct {
	Wait float64 // for delays that every host has, such as those of readiness probes
	Work float64 // the rest: less on a faster host
}

// estimator estimates how long a run still takes. It is not safe for concurrent use.
type estimator struct {
	recorded     map[string]stepDuration
	begun, ended time.Time // when the run began, and when its last step ended
	current      string    // step that runs, or will run next
	next         []string  // steps after it
	work, actual float64   // seconds that the steps of only work took on earlier runs, and here
}

// newEstimator returns an estimator for a verb.
func newEstimator(verb string) *estimator {
	recorded := map[string]map[string]stepDuration{}
	_ = json.Unmarshal(recordedDurations, &recorded) // a test reads it too
	return &estimator{recorded: recorded[verb]}
}

// applyEvent learns from e, an event of a numbered step.
func (s *estimator) applyEvent(e step.Event) {
	if s.begun.IsZero() {
		s.begun, s.ended = e.Time, e.Time
	}
	s.current, s.next = e.Step, e.Next
	if e.State != step.Finished && e.State != step.Skipped {
		return
	}
	if was, known := s.recorded[e.Step]; known && was.Wait == 0 && e.State == step.Finished {
		s.work += was.Work
		s.actual += e.Time.Sub(s.ended).Seconds()
	}
	s.ended, s.current = e.Time, ""
	if len(e.Next) > 0 {
		s.current, s.next = e.Next[0], e.Next[1:]
	}
}

// minWork is how much recorded work must be done before the speed of this host is known, in seconds.
const minWork = 3

// timeLeft returns about how long the run still takes. It reports false while that is not known well: in the first half
// of the run, and before a step that has no recorded duration. On recorded runs it is wrong by at most a quarter, or by
// 3 s at the end.
func (s *estimator) timeLeft(now time.Time) (left time.Duration, known bool) {
	if s.work < minWork {
		return 0, false
	}
	seconds := 0.0
	for i, id := range append([]string{s.current}, s.next...) {
		was, known := s.recorded[id]
		if !known {
			return 0, false
		}
		takes := was.Wait + was.Work*s.actual/s.work
		if i == 0 {
			takes = max(takes-now.Sub(s.ended).Seconds(), 0)
		}
		seconds += takes
	}
	left = time.Duration(seconds * float64(time.Second))
	return left, now.Sub(s.begun) >= left
}

// formatTimeLeft returns an estimate in words, in steps of five seconds.
func formatTimeLeft(left time.Duration) string {
	const unit = 5 * time.Second
	return "about " + max(left.Round(unit), unit).String() + " left"
}
