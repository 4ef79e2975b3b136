// Package runlog writes the log of a run and masks secrets in texts.
package runlog

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
type Log struct {
	mu      sync.Mutex
	w       io.Writer
	err     error // first error of writing; nothing is written after it
	closed  bool
	now     func() time.Time
	secrets *Secrets
	told    map[string]time.Time // when a message of a step was last logged
	outputs []*output
}

// NewRunLog returns a RunLog that writes to w and masks secrets (nil for none).
func NewLog(w io.Writer, now func() time.Time, secrets *Secrets) *Log {
	return &Log{w: w, now: now, secrets: secrets, told: map[string]time.Time{}}
}

// repeatInterval is the shortest time between two lines with the same progress
// of a step: a step may report every block that it copies.
const repeat = 10 * time.Second

// Event writes e. It skips progress without a message and progress that was
// written less than repeatInterval ago.
func (l *Log) Event(e step.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.State == step.Progress {
		key := e.Step + " " + e.Message
		if e.Message == "" || e.Time.Sub(l.told[key]) < repeat {
			return
		}
		l.told[key] = e.Time
	}
	text := e.Step + " " + string(e.State)
	if e.Message != "" {
		text += ": " + e.Message
	}
	l.line(e.Time, e.Verb, text)
}

// Note writes text as an entry of plinth itself.
func (l *Log) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line(l.now(), "plinth", text)
}

// Output returns a writer for the output of a command. source is the name of the
// command in each line.
func (l *Log) Output(source string) io.Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &output{log: l, source: source}
	l.outputs = append(l.outputs, o)
	return o
}

// Close writes incomplete lines and returns the first error of writing.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.outputs {
		o.flush()
	}
	l.closed = true
	return l.err
}

// writeEntry writes one entry. It indents all lines of text but the first.
func (l *Log) line(at time.Time, source, text string) {
	if l.err != nil || l.closed {
		return
	}
	text = strings.TrimRight(l.secrets.Clean(text), "\r\n")
	_, l.err = fmt.Fprintf(l.w, "%s %s: %s\n", at.UTC().Format("2006-01-02T15:04:05.000Z"), source,
		strings.ReplaceAll(text, "\n", "\n    "))
}

// maxLineBytes is the longest line of a command that is kept in memory. A longer
// line is dropped and not split, because a split could cut a secret in half and
// so leave it unmasked.
const maxLine = 64 << 10

// lineWriter splits the output of a command into lines.
type output struct {
	log    *Log
	source string
	part   []byte
	cut    bool // the line is too long; the rest is dropped
}

func (o *output) Write(b []byte) (int, error) {
	o.log.mu.Lock()
	defer o.log.mu.Unlock()
	for rest := b; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		o.keep(line)
		if ended {
			o.flush()
		}
		rest = after
	}
	return len(b), nil
}

// appendLine adds to the incomplete line, up to maxLineBytes.
func (o *output) keep(line []byte) {
	if space := maxLine - len(o.part); len(line) > space {
		line, o.cut = line[:space], true
	}
	o.part = append(o.part, line...)
}

// flushLine logs the current line.
func (o *output) flush() {
	if len(o.part) == 0 {
		return
	}
	text := string(o.part)
	if o.cut {
		text = "(omitted: a line longer than 64 KiB)"
	}
	o.log.line(o.log.now(), o.source, text)
	o.part, o.cut = o.part[:0], false
}
