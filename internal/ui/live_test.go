package ui

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vbauerster/mpb/v8/decor"

	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// drawFrames returns what a terminal of the given width shows after each event.
func drawFrames(s style, width int) string {
	l := &liveRenderer{style: s}
	var out strings.Builder
	for _, e := range eventScript() {
		l.now = func() time.Time { return e.Time.Add(time.Second) }
		e = cleanEvent(e)
		if over := l.tracker.applyEvent(e); over != nil {
			fmt.Fprintln(&out, s.endedRow(over))
		}
		stat := decor.Statistics{AvailableWidth: width}
		_ = l.drawTasks(&out, stat)
		_ = l.drawSummary(&out, stat)
		fmt.Fprintln(&out, "\n"+strings.Repeat("=", width))
	}
	return out.String()
}

func TestLiveRenderer_FramesMatchGoldens(t *testing.T) {
	for name, frames := range map[string]func() string{
		"live":              func() string { return drawFrames(style{}, 80) },
		"live-narrow-ascii": func() string { return drawFrames(style{ascii: true}, 40) },
		"live-color":        func() string { return strings.ReplaceAll(drawFrames(style{color: true}, 100), "\x1b", "^") },
	} {
		t.Run(name, func(t *testing.T) { compareGolden(t, name+".txt", frames()) })
	}
}

func TestLiveRenderer_ShowsTheTimeLeftInTheSecondHalf(t *testing.T) {
	l := &liveRenderer{}
	rows := map[string]string{}
	for _, e := range recordedInstall(t, "testdata/installs/busy.txt") {
		l.now = func() time.Time { return e.Time }
		l.tracker.applyEvent(e)
		var row strings.Builder
		_ = l.drawSummary(&row, decor.Statistics{AvailableWidth: 80})
		rows[e.Step+" "+string(e.State)] = row.String()
	}
	for at, want := range map[string]string{
		"images-rest done":      "  install: 15 of 30 steps, 23s",
		"console started":       "  install: 21 of 30 steps, 31s, about 25s left",
		"console-proxy started": "  install: 23 of 30 steps, 55s, about 5s left",
	} {
		if rows[at] != want {
			t.Errorf("%s: %q, want %q", at, rows[at], want)
		}
	}
}

func TestStyle_ColorDoesNotChangeText(t *testing.T) {
	sgr := regexp.MustCompile("\x1b\\[[0-9]+m")
	if got := sgr.ReplaceAllString(drawFrames(style{color: true}, 60), ""); got != drawFrames(style{}, 60) {
		t.Errorf("colored text differs:\n%s", got)
	}
}

func TestLiveRenderer_FitsTerminalWidth(t *testing.T) {
	for width := 1; width < 120; width++ {
		l := &liveRenderer{now: time.Now}
		for _, e := range eventScript() {
			l.tracker.applyEvent(e)
			var out bytes.Buffer
			stat := decor.Statistics{AvailableWidth: width}
			_ = l.drawTasks(&out, stat)
			_ = l.drawSummary(&out, stat)
			for row := range strings.Lines(out.String()) {
				if n := len([]rune(strings.TrimRight(row, "\n"))); n > width {
					t.Fatalf("width %d: row of %d: %q", width, n, row)
				}
			}
		}
	}
}

func TestLiveRenderer_KeepsEndedStepsAndStopsGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	var out bytes.Buffer
	l := newLive(Options{Err: &out, Now: time.Now})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			e := step.Event{Time: time.Now(), Verb: "install", Step: fmt.Sprint("s", i), Title: fmt.Sprint("Step ", i), State: step.Started, Count: 20, Index: i}
			l.Event(e)
			for n := range 50 {
				e.State, e.Bytes, e.Total = step.Progress, int64(n), 50
				l.Event(e)
			}
			e.State = step.Finished
			l.Event(e)
		})
	}
	all.Wait()
	l.Note("the last note")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Event(eventScript()[0]) // dropped, and no panic
	_ = l.Close()
	for i := range 20 {
		if n := strings.Count(out.String(), fmt.Sprintf("/20] Step %d: done", i)); n != 1 {
			t.Errorf("step %d is written %d times", i, n)
		}
	}
	if !strings.Contains(out.String(), "the last note\n") {
		t.Error("the note is missing")
	}
	err := wait.Until(t.Context(), wait.Options{What: "goroutines to end", Timeout: 10 * time.Second, Interval: time.Millisecond},
		func(context.Context) (bool, string, error) {
			n := runtime.NumGoroutine()
			return n <= before, fmt.Sprint(n, " left of ", before), nil
		})
	if err != nil {
		t.Error(err)
	}
}

func TestPlainRenderer_IsSafeForConcurrentUse(t *testing.T) {
	var out bytes.Buffer
	p := newPlain(Options{Err: &out, Now: time.Now}, time.NewTicker(time.Millisecond))
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			e := step.Event{Time: time.Now(), Step: fmt.Sprint("s", i), State: step.Started}
			p.Event(e)
			e.State = step.Finished
			p.Event(e)
			p.Note("x")
		})
	}
	all.Wait()
	_ = p.Close()
	_ = p.Close()
	p.Note("after the end")
	if n := strings.Count(out.String(), "\n"); n != 30 {
		t.Errorf("%d lines", n)
	}
}

func TestPercentDone_ReachesHundredOnlyAtEnd(t *testing.T) {
	for _, tc := range []struct {
		done, total int64
		want        int
	}{{0, 3, 0}, {1, 3, 33}, {999, 1000, 99}, {1000, 1000, 100}, {1 << 61, 1 << 62, 50}} {
		t.Run(fmt.Sprint(tc.done, " of ", tc.total), func(t *testing.T) {
			if got := percentDone(tc.done, tc.total); got != tc.want {
				t.Errorf("percentDone(%d, %d) = %d, want %d", tc.done, tc.total, got, tc.want)
			}
		})
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("a\nb\x1b[31mc\r\u009bd")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range oneLine(s) {
			if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
				t.Fatalf("%q: control character %q is kept", s, r)
			}
		}
	})
}

func TestEndedRow_OfInterruptedStepSaysStopped(t *testing.T) {
	for name, c := range map[string]struct {
		stopped bool
		want    string
	}{
		"failed":  {false, "x [1/2] Start k0s: failed after 2.0s"},
		"stopped": {true, "! [1/2] Start k0s: stopped after 2.0s"},
	} {
		t.Run(name, func(t *testing.T) {
			ended := &task{startedAt: fixedTime(), last: step.Event{State: step.Failed, Stopped: c.stopped, Title: "Start k0s", Count: 2, Time: fixedTime().Add(2 * time.Second)}}
			if got := (style{ascii: true}).endedRow(ended); got != c.want {
				t.Errorf("%q", got)
			}
		})
	}
}
