package ui

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	testkit.Golden(t, "testdata/"+name, []byte(got))
}

func TestChooseMode_DependsOnEnvironmentAndFlags(t *testing.T) {
	xterm := []string{"TERM=xterm", "LANG=C.UTF-8"}
	with := func(more ...string) []string { return append(append([]string{}, xterm...), more...) }
	for name, tc := range map[string]struct {
		env  ModeEnv
		want Mode
	}{
		"terminal":                     {ModeEnv{TTY: true, Environ: xterm}, Mode{Live, true, false, false}},
		"terminal, progress auto":      {ModeEnv{TTY: true, Progress: "auto", Environ: xterm}, Mode{Live, true, false, false}},
		"pipe":                         {ModeEnv{Environ: xterm}, Mode{Plain, false, false, false}},
		"flag no-color":                {ModeEnv{TTY: true, NoColor: true, Environ: xterm}, Mode{Live, false, false, false}},
		"NO_COLOR":                     {ModeEnv{TTY: true, Environ: with("NO_COLOR=1")}, Mode{Plain, false, false, false}},
		"empty NO_COLOR is unset":      {ModeEnv{TTY: true, Environ: with("NO_COLOR=")}, Mode{Live, true, false, false}},
		"dumb terminal":                {ModeEnv{TTY: true, Environ: with("TERM=dumb")}, Mode{Plain, false, false, false}},
		"no TERM":                      {ModeEnv{TTY: true}, Mode{Plain, false, true, false}},
		"CI":                           {ModeEnv{TTY: true, Environ: with("CI=true")}, Mode{Plain, false, false, false}},
		"CI=false is not CI":           {ModeEnv{TTY: true, Environ: with("CI=false")}, Mode{Live, true, false, false}},
		"progress plain":               {ModeEnv{TTY: true, Progress: "plain", Environ: xterm}, Mode{Plain, false, false, false}},
		"progress none":                {ModeEnv{TTY: true, Progress: "none", Environ: xterm}, Mode{None, false, false, false}},
		"events on a terminal":         {ModeEnv{TTY: true, Events: true, Environ: xterm}, Mode{Events, true, false, false}},
		"events despite progress none": {ModeEnv{Events: true, Progress: "none", Environ: xterm}, Mode{Events, false, false, false}},
		"terminal without UTF-8":       {ModeEnv{TTY: true, Environ: []string{"TERM=linux", "LANG=C"}}, Mode{Live, true, true, false}},
		"verbose is plain":             {ModeEnv{TTY: true, Verbose: true, Environ: xterm}, Mode{Plain, true, false, true}},
		"LC_ALL overrides LANG":        {ModeEnv{TTY: true, Environ: with("LC_ALL=C")}, Mode{Live, true, true, false}},
		"last of two values counts":    {ModeEnv{TTY: true, Environ: with("TERM=dumb", "TERM=xterm")}, Mode{Live, true, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ChooseMode(tc.env); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestFormatBytes_UsesDecimalUnits(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9950: "10 kB",
		999_499: "999 kB", 999_500: "1.0 MB", 1_234_000_000: "1.2 GB", 1 << 62: "4.6 EB"} {
		t.Run(want, func(t *testing.T) {
			if got := FormatBytes(n); got != want {
				t.Errorf("FormatBytes(%d) = %q, want %q", n, got, want)
			}
		})
	}
}

func TestFormatDuration_RoundsToReadableUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0s", 0: "0.0s", 440 * time.Millisecond: "0.4s",
		9949 * time.Millisecond: "9.9s", 9950 * time.Millisecond: "10s", 59400 * time.Millisecond: "59s",
		59600 * time.Millisecond: "1m00s", 185 * time.Second: "3m05s", 3599700 * time.Millisecond: "1h00m",
		62 * time.Minute: "1h02m"} {
		t.Run(d.String(), func(t *testing.T) {
			if got := FormatDuration(d); got != want {
				t.Errorf("FormatDuration(%v) = %q, want %q", d, got, want)
			}
		})
	}
}

// eventScript returns a run with skipped, failed, parallel and out-of-order
// events. Their times are seconds after the start.
func eventScript() []step.Event {
	at := func(s float64, index int, id, title string, state step.EventState) step.Event {
		return step.Event{V: 1, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(s * float64(time.Second))),
			Verb: "install", Step: id, State: state, Title: title, Index: index, Count: 12}
	}
	with := func(e step.Event, message string, bytes, total int64) step.Event {
		e.Message, e.Bytes, e.Total = message, bytes, total
		return e
	}
	imp := func(s float64, state step.EventState) step.Event {
		return at(s, 1, "import-images", "Import images", state)
	}
	k0s := func(s float64, state step.EventState) step.Event { return at(s, 2, "start-k0s", "Start k0s", state) }
	return []step.Event{
		at(0, 0, "prepare-host", "Prepare the host", step.Skipped),
		with(imp(1, step.Started), "7 of 9 images are missing", 0, 0),
		with(imp(2, step.Progress), "kotsadm:v1.131.2", 100e6, 1200e6),
		with(imp(4, step.Progress), "", 412e6, 1200e6),
		with(imp(5, step.Progress), "", 300e6, 1200e6), // out of order
		imp(16, step.Finished),
		k0s(16, step.Started),
		with(k0s(17, step.Progress), "node n1 to be Ready:\n\tkubelet says \x1b[31mhunter22\x1b[0m", 0, 0),
		with(k0s(60, step.Failed), "cannot start k0s: it stopped", 0, 0),
	}
}

// playPlain passes the events of eventScript to a plain renderer and lets one
// second pass at a time.
func playPlain(w io.Writer, secrets *Secrets, verbose bool) error {
	p := newPlain(Options{Err: w, Now: time.Now, Mode: Mode{Verbose: verbose}}, time.NewTicker(time.Hour))
	r := maskingRenderer{p, secrets}
	events := eventScript()
	for now := events[0].Time; len(events) > 0; now = now.Add(time.Second) {
		for len(events) > 0 && !events[0].Time.After(now) {
			r.Event(events[0])
			events = events[1:]
		}
		p.writeHeartbeats(now)
	}
	r.Note("a note with hunter22")
	return r.Close()
}

func TestPlainRenderer_WritesChangesAndHeartbeats(t *testing.T) {
	var secrets Secrets
	secrets.Hide("hunter22")
	var out bytes.Buffer
	if err := playPlain(&out, &secrets, false); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "plain.txt", out.String())
	out.Reset()
	if err := playPlain(&out, &secrets, true); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "verbose.txt", out.String())
}

func TestEventRenderer_WritesOneJSONObjectPerLine(t *testing.T) {
	var secrets Secrets
	secrets.Hide("hunter22")
	var out, notes bytes.Buffer
	r := New(Options{Mode: Mode{Progress: Events}, Out: &out, Err: &notes, Secrets: &secrets, Now: time.Now})
	for _, e := range eventScript() {
		r.Event(e)
	}
	r.Note("stopping")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "events.jsonl", out.String())
	if notes.String() != "stopping\n" {
		t.Errorf("notes: %q", notes.String())
	}
}

func TestEventRenderer_LimitsProgressButKeepsLatest(t *testing.T) {
	var out bytes.Buffer
	j := newEvents(&out, io.Discard, time.NewTicker(time.Hour))
	e := eventScript()[1]
	j.Event(e)
	e.State, e.Total = step.Progress, 1000
	for range 999 {
		e.Time, e.Bytes, e.Message = e.Time.Add(time.Millisecond), e.Bytes+1, "copying"
		j.Event(e)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines for a second of progress:\n%s", n, out.String())
	}
	j.writePending()
	j.writePending()
	if n := strings.Count(out.String(), "\n"); n != 3 || !strings.Contains(out.String(), `"bytes":999,`) {
		t.Errorf("the latest progress is lost or written twice:\n%s", out.String())
	}
	_ = j.Close()
	j.Event(e)
	if strings.Count(out.String(), "\n") != 3 {
		t.Error("an event after Close is written")
	}
}

func TestNotesOnly_WritesNotes(t *testing.T) {
	var out bytes.Buffer
	r := New(Options{Mode: Mode{Progress: None}, Err: &out, Now: time.Now})
	for _, e := range eventScript() {
		r.Event(e)
	}
	r.Note("careful")
	if err := r.Close(); err != nil || out.String() != "careful\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// brokenWriter fails every write and counts the calls.
type brokenWriter struct{ calls int }

func (b *brokenWriter) Write([]byte) (int, error) {
	b.calls++
	return 0, errors.New("no space left")
}

func TestRenderer_CloseReturnsFirstWriteError(t *testing.T) {
	var plainOut, jsonOut brokenWriter
	if err := playPlain(&plainOut, nil, false); err == nil || plainOut.calls != 1 {
		t.Errorf("plain: %v after %d writes", err, plainOut.calls)
	}
	r := New(Options{Mode: Mode{Progress: Events}, Out: &jsonOut, Err: io.Discard, Now: time.Now})
	r.Event(eventScript()[0])
	r.Event(eventScript()[1])
	if err := r.Close(); err == nil || jsonOut.calls != 1 {
		t.Errorf("events: %v after %d writes", err, jsonOut.calls)
	}
}

func TestPrompt_NeedsTerminal(t *testing.T) {
	_, err := Prompt{Question: "Remove it?", Flag: "--yes"}.Confirm(t.Context())
	if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(problem.Hint(err), "--yes") {
		t.Errorf("%v, hint %q", err, problem.Hint(err))
	}
}

func TestPrompt_AcceptsOnlyYes(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, "yes": true, "n\n": false, "\n": false, "": false, "yep\n": false} {
		t.Run(strings.TrimSpace(answer), func(t *testing.T) {
			var out bytes.Buffer
			got, err := Prompt{In: strings.NewReader(answer), Out: &out, TTY: true, Question: "Remove it?"}.Confirm(t.Context())
			asked := "Remove it? [y/N] "
			if !strings.HasSuffix(answer, "\n") { // Ctrl-D
				asked += "\n"
			}
			if err != nil || got != want || out.String() != asked {
				t.Errorf("%q: %v, %v, %q", answer, got, err, out.String())
			}
		})
	}
}

func TestPrompt_ReturnsWhenContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never, end := io.Pipe()
	defer end.Close()
	var out bytes.Buffer
	_, err := Prompt{In: never, Out: &out, TTY: true, Question: "Remove it?"}.Confirm(ctx)
	if problem.ExitCode(err) != problem.ExitInterrupted || problem.Hint(err) != "nothing was changed" || out.String() != "Remove it? [y/N] \n" {
		t.Errorf("%v, hint %q, %q", err, problem.Hint(err), out.String())
	}
}
