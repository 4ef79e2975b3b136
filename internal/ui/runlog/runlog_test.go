package runlog

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/step"
)

func clock() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.FixedZone("", 3600)) }

func TestSecretsAreMaskedInEveryForm(t *testing.T) {
	var s Secrets
	s.Hide("hunter22")
	s.Hide("hunter22-longer")
	s.Hide("-----BEGIN KEY-----\nQUJDREVG\nab\n-----END KEY-----\n")
	s.Hide("abc") // too short to be masked
	for text, want := range map[string]string{
		"password=hunter22":        "password=***",
		"hunter22-longer":          "***",
		"line QUJDREVG of the key": "line *** of the key",
		base64.StdEncoding.EncodeToString([]byte("hunter22")): "***",
		"abc ab hunter": "abc ab hunter",
		"":              "",
	} {
		if got := s.Clean(text); got != want {
			t.Errorf("Clean(%q) = %q, want %q", text, got, want)
		}
	}
	if got := (*Secrets)(nil).Clean("as it is"); got != "as it is" {
		t.Errorf("nil: %q", got)
	}
}

func TestLogHasOneTimedLineAnEntry(t *testing.T) {
	var out bytes.Buffer
	var secrets Secrets
	secrets.Hide("hunter22")
	l := NewLog(&out, clock, &secrets)
	event := func(state step.EventState, message string, bytes int64) {
		l.Event(step.Event{Time: clock(), Verb: "install", Step: "start-k0s", State: state, Message: message, Bytes: bytes})
	}
	event(step.Started, "", 0)
	event(step.Progress, "waiting", 1)
	event(step.Progress, "waiting", 2) // only bytes: not logged
	event(step.Progress, "", 3)
	w := l.Output("k0s start")
	fmt.Fprint(w, "first li")
	fmt.Fprint(w, "ne\n\nhunt")
	fmt.Fprint(w, "er22\r\nno end of line")
	event(step.Failed, "cannot start k0s:\nit stopped", 0)
	l.Note("interrupted")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Note("after the end")
	want := `2026-01-02T02:04:05.678Z install: start-k0s started
2026-01-02T02:04:05.678Z install: start-k0s progress: waiting
2026-01-02T02:04:05.678Z k0s start: first line
2026-01-02T02:04:05.678Z k0s start: ***
2026-01-02T02:04:05.678Z install: start-k0s failed: cannot start k0s:
    it stopped
2026-01-02T02:04:05.678Z plinth: interrupted
2026-01-02T02:04:05.678Z k0s start: no end of line
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

func TestEndlessLinesAreLeftOut(t *testing.T) {
	var out bytes.Buffer
	l := NewLog(&out, clock, nil)
	w := l.Output("cat")
	for range 3 {
		fmt.Fprint(w, strings.Repeat("x", maxLine))
	}
	fmt.Fprint(w, "\nshort\n")
	_ = l.Close()
	if got := out.String(); len(got) > 300 || !strings.Contains(got, "left out") || !strings.Contains(got, "cat: short\n") {
		t.Errorf("%d bytes: %.200s", len(got), got)
	}
}

type full struct{ calls int }

func (f *full) Write([]byte) (int, error) { f.calls++; return 0, errors.New("disk full") }

func TestAFullDiskIsToldOnceAtTheEnd(t *testing.T) {
	var disk full
	l := NewLog(&disk, clock, nil)
	l.Note("one")
	if _, err := l.Output("cmd").Write([]byte("two\n")); err != nil {
		t.Errorf("a command must not fail for the log's sake: %v", err)
	}
	if err := l.Close(); err == nil || disk.calls != 1 {
		t.Errorf("%v after %d writes", err, disk.calls)
	}
}

func TestLogIsSafeForConcurrentUse(t *testing.T) {
	var out bytes.Buffer
	l := NewLog(&out, clock, &Secrets{})
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			fmt.Fprint(l.Output("cmd"), "a line\n")
			l.Event(step.Event{State: step.Started})
			l.secrets.Hide("hunter22")
		})
	}
	all.Wait()
	_ = l.Close()
	if n := strings.Count(out.String(), "\n"); n != 20 {
		t.Errorf("%d lines", n)
	}
}

func FuzzNoSecretGetsIntoTheLogWhateverTheChunks(f *testing.F) {
	f.Add("a hunter22 b\nhunter22", 3)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		if cut < 0 || cut > len(text) {
			return
		}
		var out bytes.Buffer
		var secrets Secrets
		secrets.Hide("hunter22")
		l := NewLog(&out, clock, &secrets)
		w := l.Output("cmd")
		fmt.Fprint(w, text[:cut])
		fmt.Fprint(w, text[cut:])
		_ = l.Close()
		if strings.Contains(out.String(), "hunter22") {
			t.Fatalf("%q", out.String())
		}
	})
}
