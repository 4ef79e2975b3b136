package ui

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/plinthdev/plinth/internal/step"
)

// hostile holds a control sequence, a title, a C1 control, a bidirectional override, a zero-width
// space, an invisible tag and a delete.
const hostile = "a\x1b[31m\x1b]0;t\x07\u009b2J\u202eb\u200b\U000e0041\x7f"

// isSafe reports whether a terminal shows s as it is.
func isSafe(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsAny(s, "\x1b\x07\r\x7f\u009b\u202e\u200b\U000e0041")
}

func TestCleanText_MakesControlCharactersVisible(t *testing.T) {
	for in, want := range map[string]string{
		"plain, “quoted”, → ✓ 日本語 é": "plain, “quoted”, → ✓ 日本語 é",
		"two\nlines\tand a tab":      "two\nlines\tand a tab",
		"carriage\rreturn":           `carriage\u{d}return`,
		"not UTF-8: \x9b2J":          `not UTF-8: \x{9b}2J`,
		"a replacement \ufffd":       "a replacement \ufffd",
		hostile:                      `a\u{1b}[31m\u{1b}]0;t\u{7}\u{9b}2J\u{202e}b\u{200b}\u{e0041}\u{7f}`,
	} {
		t.Run(want, func(t *testing.T) {
			if got := CleanText(in); got != want {
				t.Errorf("CleanText(%q) = %q, want %q", in, got, want)
			}
		})
	}
}

func TestCleanLine_KeepsValueInItsLineAndColumn(t *testing.T) {
	if got, want := CleanLine("x\nSigned\tyes"), `x\u{a}Signed\u{9}yes`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWriteJSON_EscapesAndKeepsValues(t *testing.T) {
	var out bytes.Buffer
	raw := json.RawMessage("\"" + "\u202e \x9b" + "\"") // bytes of a file, as they are
	if err := WriteJSON(&out, map[string]any{"text": hostile + "\n<b>", "raw": raw}); err != nil {
		t.Fatal(err)
	}
	var back struct{ Text, Raw string }
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back.Text != hostile+"\n<b>" || back.Raw != "\u202e \ufffd" {
		t.Errorf("%+v, %v", back, err)
	}
	if line := out.String(); !isSafe(line) || strings.Count(line, "\n") != 1 || !strings.Contains(line, "<b>") {
		t.Errorf("%q", line)
	}
}

func TestRenderer_CleansEventsAndNotes(t *testing.T) {
	for name, progress := range map[string]Progress{"none": None, "plain": Plain, "live": Live, "events": Events} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			r := New(Options{Mode: Mode{Progress: progress}, Out: &out, Err: &out, Now: fixedTime})
			for _, state := range []step.EventState{step.Started, step.Finished} {
				r.Event(step.Event{V: 1, Time: fixedTime(), Verb: "install", Step: "chart", Title: "Install " + hostile, Message: hostile, State: state, Count: 1})
			}
			r.Note("a note: " + hostile)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			got := out.String()
			if progress == Live { // mpb moves the cursor itself
				got = strings.NewReplacer("\x1b[K", "", "\x1b[J", "", "\x1b[1A", "", "\x1b[0J", "").Replace(got)
			}
			if !isSafe(got) || !strings.Contains(got, `\u{202e}`) {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestPrompt_CleansQuestion(t *testing.T) {
	var out bytes.Buffer
	_, _ = Prompt{In: strings.NewReader("n\n"), Out: &out, TTY: true, Question: "Remove " + hostile + "?"}.Confirm(t.Context())
	if !isSafe(out.String()) {
		t.Errorf("%q", out.String())
	}
}

func TestRunLog_CleansEntries(t *testing.T) {
	var out bytes.Buffer
	l := NewRunLog(&out, fixedTime, nil)
	l.Note(hostile)
	_, _ = l.Output("k0s").Write([]byte(hostile + "\n"))
	if err := l.Close(); err != nil || !isSafe(out.String()) {
		t.Errorf("%v: %q", err, out.String())
	}
}
