// Package runlog owns what is kept of a run in writing, and which texts must
// never be shown. It refuses to open files and to draw for a person.
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

// Log writes a run to a log: one line an event, a note or a line of a
// command's output, each with its time (UTC, milliseconds). It does not open
// or close the file below it.
type Log struct {
	mu      sync.Mutex
	w       io.Writer
	err     error // the first error of writing; nothing is written after it
	closed  bool
	now     func() time.Time
	secrets *Secrets
	told    map[string]time.Time // when a step's message was last logged
	outputs []*output
}

// NewLog returns a Log to w that masks secrets (nil for none).
func NewLog(w io.Writer, now func() time.Time, secrets *Secrets) *Log {
	return &Log{w: w, now: now, secrets: secrets, told: map[string]time.Time{}}
}

// repeat is how long the same progress of a step is not logged again: domain
// code may report every block that it copies.
const repeat = 10 * time.Second

// Event writes e, unless it is progress that tells only bytes or was just told.
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

// Note writes text.
func (l *Log) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line(l.now(), "plinth", text)
}

// Output returns a writer for what a command prints; source names it in each line.
func (l *Log) Output(source string) io.Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &output{log: l, source: source}
	l.outputs = append(l.outputs, o)
	return o
}

// Close writes what has no end of line yet and returns the first error of writing.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.outputs {
		o.flush()
	}
	l.closed = true
	return l.err
}

// line writes one entry; a message of several lines is indented below it.
func (l *Log) line(at time.Time, source, text string) {
	if l.err != nil || l.closed {
		return
	}
	text = strings.TrimRight(l.secrets.Clean(text), "\r\n")
	_, l.err = fmt.Fprintf(l.w, "%s %s: %s\n", at.UTC().Format("2006-01-02T15:04:05.000Z"), source,
		strings.ReplaceAll(text, "\n", "\n    "))
}

// maxLine bounds what a command without line ends makes us keep. The rest of
// such a line is dropped rather than split, as a split could halve a secret.
const maxLine = 64 << 10

// output cuts what a command prints into lines.
type output struct {
	log    *Log
	source string
	part   []byte
	cut    bool // the line in part is full; its rest is dropped
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

func (o *output) keep(line []byte) {
	if room := maxLine - len(o.part); len(line) > room {
		line, o.cut = line[:room], true
	}
	o.part = append(o.part, line...)
}

func (o *output) flush() {
	if len(o.part) == 0 {
		return
	}
	text := string(o.part)
	if o.cut {
		text = "(a line longer than 64 KiB is left out)"
	}
	o.log.line(o.log.now(), o.source, text)
	o.part, o.cut = o.part[:0], false
}
