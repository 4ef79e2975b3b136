package ui

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

// recordedInstall returns the events of an install that was recorded: seconds, state and step a line.
func recordedInstall(t *testing.T, path string) (events []step.Event) {
	t.Helper()
	raw, err := os.ReadFile(path)
	testkit.Must(t, err)
	var order []string
	for line := range strings.Lines(string(raw)) {
		var seconds float64
		e := step.Event{Verb: "install"}
		_, err := fmt.Sscan(line, &seconds, &e.State, &e.Step)
		testkit.Must(t, err)
		e.Time = time.Unix(0, 0).Add(time.Duration(seconds * float64(time.Second)))
		if !slices.Contains(order, e.Step) {
			order = append(order, e.Step)
		}
		events = append(events, e)
	}
	for i := range events {
		events[i].Index, events[i].Count = slices.Index(order, events[i].Step), len(order)
		events[i].Next = order[events[i].Index+1:]
	}
	return events
}

// TestTimeLeft_IsRightOnRecordedRuns replays installs that were recorded on one machine with two processors, more or less
// busy. The durations are from them. resumed was interrupted before, and its machine was busy with much else.
func TestTimeLeft_IsRightOnRecordedRuns(t *testing.T) {
	paths, err := filepath.Glob("testdata/installs/*.txt")
	testkit.Must(t, err)
	if len(paths) < 2 {
		t.Fatal(paths)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			events := recordedInstall(t, path)
			begin, end := events[0].Time, events[len(events)-1].Time
			total := end.Sub(begin)
			e := newEstimator("install")
			var shownFrom time.Duration
			for now := begin; now.Before(end); now = now.Add(500 * time.Millisecond) {
				for len(events) > 0 && !events[0].Time.After(now) {
					e.applyEvent(events[0])
					events = events[1:]
				}
				left, known := e.timeLeft(now)
				switch {
				case !known && shownFrom > 0:
					t.Errorf("not shown any more after %s", now.Sub(begin))
				case !known:
					continue
				case shownFrom == 0:
					shownFrom = now.Sub(begin)
				}
				actual := end.Sub(now).Seconds()
				if wrong := math.Abs(left.Seconds() - actual); wrong > max(0.25*actual, 3) {
					t.Errorf("after %s: %.1f s left, estimated %.1f s (%s)", now.Sub(begin), actual, left.Seconds(), e.current)
				}
			}
			if part := shownFrom.Seconds() / total.Seconds(); part < 0.4 || part > 0.6 {
				t.Errorf("shown from %.0f %% of the run", part*100)
			}
		})
	}
}

func TestTimeLeft_IsNotShown(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	work := step.Event{Step: "images-boot", Time: at(60), State: step.Finished}
	for name, next := range map[string][]string{
		"before a step without a recorded duration": {"agent", "chart-of-the-vendor"},
		"in the first half":                         {"console", "registry", "system-pods", "node-ready"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEstimator("install")
			e.applyEvent(step.Event{Step: "images-boot", Time: at(0), State: step.Started, Next: next})
			work.Next = next
			e.applyEvent(work)
			if left, known := e.timeLeft(at(61)); known {
				t.Error(left)
			}
		})
	}
	t.Run("of another verb", func(t *testing.T) {
		e := newEstimator("reset")
		e.applyEvent(step.Event{Step: "images-boot", Time: at(0), State: step.Started})
		e.applyEvent(step.Event{Step: "images-boot", Time: at(60), State: step.Finished})
		if left, known := e.timeLeft(at(61)); known {
			t.Error(left)
		}
	})
}

func TestTimeLeft_ScalesWithTheSpeedOfTheHost(t *testing.T) {
	e := newEstimator("install")
	next := []string{"images-rest", "system-pods", "agent"}
	e.applyEvent(step.Event{Step: "images-boot", Time: time.Unix(0, 0), State: step.Started, Next: next})
	was := e.recorded["images-boot"].Work
	end := time.Unix(0, 0).Add(time.Duration(3 * was * float64(time.Second)))
	e.applyEvent(step.Event{Step: "images-boot", Time: end, State: step.Finished, Next: next})
	want := 3*(e.recorded["images-rest"].Work+e.recorded["agent"].Work) + e.recorded["system-pods"].Wait
	if left, known := e.timeLeft(end.Add(10 * time.Second)); !known || math.Abs(left.Seconds()-max(want-10, 0)) > 0.1 {
		t.Errorf("%s %v, want %.1f s", left, known, want-10)
	}
}

func TestRecordedDurations_AreComplete(t *testing.T) {
	var all map[string]map[string]stepDuration
	testkit.Must(t, json.Unmarshal(recordedDurations, &all))
	for id, d := range all["install"] {
		if d.Wait+d.Work <= 0 {
			t.Errorf("%s has no duration", id)
		}
	}
}

func TestFormatTimeLeft(t *testing.T) {
	for left, want := range map[time.Duration]string{0: "about 5s left", 12 * time.Second: "about 10s left", 93 * time.Second: "about 1m35s left"} {
		if got := formatTimeLeft(left); got != want {
			t.Errorf("%s: %s, want %s", left, got, want)
		}
	}
}
