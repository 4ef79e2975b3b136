package build

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"time"
)

// recordedSeconds has the processor time that each part took in a build without caches, in seconds.
//
//go:embed seconds.json
var recordedSeconds []byte

// unknownSeconds is taken for a part that was not recorded.
const unknownSeconds = 90

// minProgress is how much of the recorded time must be over before the speed of this machine is known, in seconds.
const minProgress = 60

// estimator estimates how long a build still takes. It is not safe for concurrent use.
type estimator struct {
	recorded map[string]float64
	began    time.Time
	jobs     int
	left     float64              // recorded seconds of the parts that are not built
	done     float64              // recorded seconds of the parts that this build has built
	running  map[string]time.Time // when the parts that are being built were started
}

func newEstimator(parts []string, jobs int, now time.Time) *estimator {
	e := &estimator{recorded: map[string]float64{}, began: now, jobs: max(jobs, 1), running: map[string]time.Time{}}
	_ = json.Unmarshal(recordedSeconds, &e.recorded) // a test reads it too
	for _, name := range parts {
		e.left += e.seconds(name)
	}
	return e
}

func (e *estimator) seconds(part string) float64 {
	if s, known := e.recorded[part]; known {
		return s
	}
	return unknownSeconds
}

func (e *estimator) start(part string, now time.Time) { e.running[part] = now }

func (e *estimator) finish(part string) {
	delete(e.running, part)
	e.left -= e.seconds(part)
	e.done += e.seconds(part)
}

// remaining returns the time that the build still takes: what was recorded of the parts that are left, at the speed of
// this machine so far. A part that is being built counts for at most nine tenths before it is complete.
func (e *estimator) remaining(now time.Time) time.Duration {
	partly := 0.0
	for name, started := range e.running {
		partly += min(now.Sub(started).Seconds(), 0.9*e.seconds(name))
	}
	speed := float64(e.jobs) // recorded seconds in a second
	if progress := e.done + partly; progress >= minProgress {
		speed = progress / now.Sub(e.began).Seconds()
	}
	return time.Duration((e.left - partly) / speed * float64(time.Second))
}

// formatRemaining returns ", about 25 minutes left", or "" if less than a minute is.
func formatRemaining(d time.Duration) string {
	switch minutes := int(d.Round(time.Minute).Minutes()); {
	case minutes < 1:
		return ""
	case minutes == 1:
		return ", about a minute left"
	default:
		return fmt.Sprintf(", about %d minutes left", minutes)
	}
}
