package ui

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

// fixedTime is the clock of all tests.
func fixedTime() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.FixedZone("", 3600)) }

func TestSecrets_MaskEveryEncoding(t *testing.T) {
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
		t.Run(text, func(t *testing.T) {
			if got := s.Mask(text); got != want {
				t.Errorf("Mask(%q) = %q, want %q", text, got, want)
			}
		})
	}
	if got := (*Secrets)(nil).Mask("as it is"); got != "as it is" {
		t.Errorf("nil: %q", got)
	}
}

func TestRunLog_WritesOneTimedLinePerEntry(t *testing.T) {
	var out bytes.Buffer
	var secrets Secrets
	secrets.Hide("hunter22")
	l := NewRunLog(&out, fixedTime, &secrets)
	event := func(state step.EventState, message string, bytes int64) {
		l.Event(step.Event{Time: fixedTime(), Verb: "install", Step: "start-k0s", State: state, Message: message, Bytes: bytes})
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

func TestRunLog_OmitsTooLongLines(t *testing.T) {
	var out bytes.Buffer
	l := NewRunLog(&out, fixedTime, nil)
	w := l.Output("cat")
	for range 3 {
		fmt.Fprint(w, strings.Repeat("x", maxLineBytes))
	}
	fmt.Fprint(w, "\nshort\n")
	_ = l.Close()
	if got := out.String(); len(got) > 300 || !strings.Contains(got, "omitted") || !strings.Contains(got, "cat: short\n") {
		t.Errorf("%d bytes: %.200s", len(got), got)
	}
}

// fullDisk fails every write and counts the calls.
type fullDisk struct{ calls int }

func (f *fullDisk) Write([]byte) (int, error) { f.calls++; return 0, errors.New("disk full") }

func TestRunLog_CloseReturnsFirstWriteError(t *testing.T) {
	var disk fullDisk
	l := NewRunLog(&disk, fixedTime, nil)
	l.Note("one")
	if _, err := l.Output("cmd").Write([]byte("two\n")); err != nil {
		t.Errorf("the log made a command fail: %v", err)
	}
	if err := l.Close(); err == nil || disk.calls != 1 {
		t.Errorf("%v after %d writes", err, disk.calls)
	}
}

func TestRunLog_IsSafeForConcurrentUse(t *testing.T) {
	var out bytes.Buffer
	l := NewRunLog(&out, fixedTime, &Secrets{})
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

func FuzzRunLogMasksSecrets(f *testing.F) {
	f.Add("a hunter22 b\nhunter22", 3)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		if cut < 0 || cut > len(text) {
			return
		}
		var out bytes.Buffer
		var secrets Secrets
		secrets.Hide("hunter22")
		l := NewRunLog(&out, fixedTime, &secrets)
		w := l.Output("cmd")
		fmt.Fprint(w, text[:cut])
		fmt.Fprint(w, text[cut:])
		_ = l.Close()
		if strings.Contains(out.String(), "hunter22") {
			t.Fatalf("%q", out.String())
		}
	})
}
