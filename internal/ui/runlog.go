package ui

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/step"
)

// RunLog writes the log of a run: one line per event, note, or line of a
// command's output, with its time in UTC and milliseconds. It does not open or
// close the file that it writes to. It is safe for concurrent use.
type RunLog struct {
	mu       sync.Mutex
	w        io.Writer
	err      error // first error of writing; nothing is written after it
	closed   bool
	now      func() time.Time
	secrets  *Secrets
	loggedAt map[string]time.Time // when a message of a step was last logged
	outputs  []*lineWriter
}

// NewRunLog returns a RunLog that writes to w and masks secrets (nil for none).
func NewRunLog(w io.Writer, now func() time.Time, secrets *Secrets) *RunLog {
	return &RunLog{w: w, now: now, secrets: secrets, loggedAt: map[string]time.Time{}}
}

// repeatInterval is the shortest time between two lines with the same progress
// of a step: a step may report every block that it copies.
const repeatInterval = 10 * time.Second

// Event writes e. It skips progress without a message and progress that was
// written less than repeatInterval ago.
func (l *RunLog) Event(e step.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.State == step.Progress {
		key := e.Step + " " + e.Message
		if e.Message == "" || e.Time.Sub(l.loggedAt[key]) < repeatInterval {
			return
		}
		l.loggedAt[key] = e.Time
	}
	text := e.Step + " " + string(e.State)
	if e.Message != "" {
		text += ": " + e.Message
	}
	l.writeEntry(e.Time, e.Verb, text)
}

// Note writes text as an entry of plinth itself.
func (l *RunLog) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writeEntry(l.now(), "plinth", text)
}

// Output returns a writer for the output of a command. source is the name of the
// command in each line.
func (l *RunLog) Output(source string) io.Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &lineWriter{log: l, source: source}
	l.outputs = append(l.outputs, o)
	return o
}

// Close writes incomplete lines and returns the first error of writing.
func (l *RunLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.outputs {
		o.flushLine()
	}
	l.closed = true
	return l.err
}

// writeEntry writes one entry. It indents all lines of text but the first.
func (l *RunLog) writeEntry(at time.Time, source, text string) {
	if l.err != nil || l.closed {
		return
	}
	text = CleanText(strings.TrimRight(l.secrets.Mask(text), "\r\n"))
	_, l.err = fmt.Fprintf(l.w, "%s %s: %s\n", at.UTC().Format("2006-01-02T15:04:05.000Z"), source,
		strings.ReplaceAll(text, "\n", "\n    "))
}

// maxLineBytes is the longest line of a command that is kept in memory. A longer
// line is dropped and not split, because a split could cut a secret in half and
// so leave it unmasked.
const maxLineBytes = 64 << 10

// lineWriter splits the output of a command into lines.
type lineWriter struct {
	log       *RunLog
	source    string
	partial   []byte
	truncated bool // the line is too long; the rest is dropped
}

func (o *lineWriter) Write(b []byte) (int, error) {
	o.log.mu.Lock()
	defer o.log.mu.Unlock()
	for rest := b; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		o.appendLine(line)
		if ended {
			o.flushLine()
		}
		rest = after
	}
	return len(b), nil
}

// appendLine adds to the incomplete line, up to maxLineBytes.
func (o *lineWriter) appendLine(line []byte) {
	if space := maxLineBytes - len(o.partial); len(line) > space {
		line, o.truncated = line[:space], true
	}
	o.partial = append(o.partial, line...)
}

// flushLine logs the current line.
func (o *lineWriter) flushLine() {
	if len(o.partial) == 0 {
		return
	}
	text := string(o.partial)
	if o.truncated {
		text = "(omitted: a line longer than 64 KiB)"
	}
	o.log.writeEntry(o.log.now(), o.source, text)
	o.partial, o.truncated = o.partial[:0], false
}
