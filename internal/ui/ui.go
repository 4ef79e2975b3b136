// Package ui shows the progress of a run, as live, plain or JSON output, asks
// questions, writes the run's log, and masks secrets in all of them.
package ui

import (
	"io"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/step"
)

// Renderer shows the events of one run. It is safe for concurrent use.
type Renderer interface {
	// Event shows one event. It does not wait for the step.
	Event(step.Event)
	// Note shows a line that does not belong to a step, such as a warning.
	Note(text string)
	// Close flushes the output, stops the renderer and returns the first error of
	// writing. Events after Close are dropped.
	Close() error
}

// Progress is how progress is shown.
type Progress int

// The kinds of progress output.
const (
	None   Progress = iota // no progress
	Plain                  // one line per change, for logs and pipes
	Live                   // redrawn in place, for terminals
	Events                 // one JSON event per line, for programs
)

// Mode says how to show a run.
type Mode struct {
	Progress Progress
	Color    bool // use colors
	ASCII    bool // use ASCII characters only
	Verbose  bool // show news of every second
}

// ModeEnv holds everything that the choice of a Mode depends on.
type ModeEnv struct {
	TTY      bool   // standard error is a terminal
	Progress string // --progress: auto, plain or none
	NoColor  bool   // --no-color
	Verbose  bool   // -v
	Events   bool   // -o json of a verb that streams its events
	Environ  []string
}

// ChooseMode returns the mode for e. Live and colored output needs a terminal,
// and is not used with NO_COLOR (https://no-color.org), with TERM=dumb or no TERM,
// with CI, or with --progress plain or none. Verbose output must not be redrawn,
// so it is plain.
func ChooseMode(e ModeEnv) Mode {
	ci := e.lookupVariable("CI")
	rich := e.TTY && e.Progress != "plain" && e.Progress != "none" &&
		e.lookupVariable("NO_COLOR") == "" && e.lookupVariable("TERM") != "" && e.lookupVariable("TERM") != "dumb" &&
		(ci == "" || ci == "false" || ci == "0")
	mode := Mode{Progress: Plain, Color: rich && !e.NoColor, ASCII: !e.isUTF8(), Verbose: e.Verbose}
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

// lookupVariable returns the value of an environment variable, "" if it is not
// set. The last of several values counts.
func (e ModeEnv) lookupVariable(key string) string {
	for i := len(e.Environ) - 1; i >= 0; i-- {
		if k, v, _ := strings.Cut(e.Environ[i], "="); k == key {
			return v
		}
	}
	return ""
}

// isUTF8 reports whether the locale uses UTF-8. It reads LC_ALL, LC_CTYPE and
// LANG in the order of POSIX.
func (e ModeEnv) isUTF8() bool {
	for _, key := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(e.lookupVariable(key)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// Options configures a renderer.
type Options struct {
	Mode    Mode
	Out     io.Writer        // standard output, for JSON events
	Err     io.Writer        // standard error, for everything else
	Secrets *Secrets         // masked in all output; nil for none
	Now     func() time.Time // the clock
	Width   int              // columns of the terminal; 0 if Err is none
}

// New returns a renderer for o.Mode. The caller must close it.
func New(o Options) Renderer {
	return maskingRenderer{next: selectRenderer(o), secrets: o.Secrets}
}

// selectRenderer returns the renderer for o.Mode, without masking.
func selectRenderer(o Options) Renderer {
	switch o.Mode.Progress {
	case Live:
		return newLive(o)
	case Plain:
		return newPlain(o, time.NewTicker(time.Second))
	case Events:
		return newEvents(o.Out, o.Err, time.NewTicker(eventInterval))
	default:
		return &notesOnly{w: o.Err}
	}
}

// maskingRenderer masks secrets in everything that it passes to next, and cleans
// notes, which every renderer writes as text.
type maskingRenderer struct {
	next    Renderer
	secrets *Secrets
}

var _ Renderer = maskingRenderer{}

func (m maskingRenderer) Event(e step.Event) {
	e.Message = m.secrets.Mask(e.Message)
	m.next.Event(e)
}

func (m maskingRenderer) Note(text string) { m.next.Note(CleanText(m.secrets.Mask(text))) }
func (m maskingRenderer) Close() error     { return m.next.Close() }
