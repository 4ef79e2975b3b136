// Package ui owns what a person or a program sees of a run while it lasts:
// live, plain and JSON renderers of step events, the log, prompts, and the
// masking of secrets in all of them. It refuses to know what a step does, to
// open files, and to decide what is asked or answered.
package ui

import (
	"io"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// Renderer shows the events of one run. All methods may be called from
// several goroutines at once.
type Renderer interface {
	// Event shows one event; it never blocks on a slow step.
	Event(step.Event)
	// Note shows a line that belongs to no step: a warning, an interruption.
	Note(text string)
	// Close flushes, ends what the renderer started, and returns the first
	// error of writing, if any. Events after Close are dropped.
	Close() error
}

// Progress is how progress is shown.
type Progress int

// The ways of showing progress.
const (
	None   Progress = iota // not at all
	Plain                  // one line a change, for logs and pipes
	Live                   // redrawn in place, for terminals
	Events                 // one JSON event a line, for programs
)

// Mode is how to draw.
type Mode struct {
	Progress Progress
	Color    bool // terminal colours may be used
	ASCII    bool // the terminal cannot be trusted with other characters
	Verbose  bool // every second that brings something new is told
}

// Env is all that the choice of a Mode depends on.
type Env struct {
	TTY      bool   // standard error is a terminal
	Progress string // --progress: auto, plain or none
	NoColor  bool   // --no-color
	Verbose  bool   // -v
	Events   bool   // -o json of a verb that streams its events
	Environ  []string
}

// Choose decides how to draw: live and coloured only on a terminal, and never
// with NO_COLOR (https://no-color.org), TERM=dumb or unset, CI, or --progress
// plain or none. What is verbose is not overdrawn, so it is plain.
func Choose(e Env) Mode {
	ci := e.get("CI")
	rich := e.TTY && e.Progress != "plain" && e.Progress != "none" &&
		e.get("NO_COLOR") == "" && e.get("TERM") != "" && e.get("TERM") != "dumb" &&
		(ci == "" || ci == "false" || ci == "0")
	mode := Mode{Progress: Plain, Color: rich && !e.NoColor, ASCII: !e.utf8(), Verbose: e.Verbose}
	switch {
	case e.Events:
		mode.Progress = Events
	case e.Progress == "none":
		mode.Progress = None
	case rich && !e.Verbose:
		mode.Progress = Live
	}
	return mode
}

// get is the value of an environment variable, the last one given; "" if none.
func (e Env) get(key string) string {
	for i := len(e.Environ) - 1; i >= 0; i-- {
		if k, v, _ := strings.Cut(e.Environ[i], "="); k == key {
			return v
		}
	}
	return ""
}

// utf8 looks the locale up as POSIX says: LC_ALL before LC_CTYPE before LANG.
func (e Env) utf8() bool {
	for _, key := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(e.get(key)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// Options are what a renderer needs.
type Options struct {
	Mode    Mode
	Out     io.Writer        // the answer's stream: JSON events go here
	Err     io.Writer        // everything else goes here
	Secrets *runlog.Secrets  // masked wherever they turn up; nil for none
	Now     func() time.Time // the clock
}

// New returns the renderer for o.Mode. It must be closed.
func New(o Options) Renderer {
	return masked{next: newRenderer(o), secrets: o.Secrets}
}

func newRenderer(o Options) Renderer {
	switch o.Mode.Progress {
	case Live:
		return newLive(o)
	case Plain:
		return newPlain(o, time.NewTicker(time.Second))
	case Events:
		return newEvents(o.Out, o.Err, time.NewTicker(eventPause))
	default:
		return &silent{w: o.Err}
	}
}

// masked cleans all that goes to another renderer.
type masked struct {
	next    Renderer
	secrets *runlog.Secrets
}

var _ Renderer = masked{}

func (m masked) Event(e step.Event) {
	e.Message = m.secrets.Clean(e.Message)
	m.next.Event(e)
}

func (m masked) Note(text string) { m.next.Note(m.secrets.Clean(text)) }
func (m masked) Close() error     { return m.next.Close() }
