package ui

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/plinthdev/plinth/internal/step"
)

// liveRenderer redraws the running steps in place at the bottom of the terminal.
// Finished steps stay above them. While no step runs it does not draw, so that a
// question can be asked.
type liveRenderer struct {
	writeMu  sync.Mutex // serializes writers; not held while drawing
	w        io.Writer
	now      func() time.Time
	style    style
	width    int           // columns; 0 if unknown
	progress *mpb.Progress // nil while no step runs
	bar      *mpb.Bar      // draws all rows; mpb only moves the cursor
	closed   bool

	mu      sync.Mutex // guards tracker, also while drawing
	tracker tracker
}

var _ Renderer = (*liveRenderer)(nil)

func newLive(o Options) *liveRenderer {
	return &liveRenderer{w: o.Err, now: o.Now, width: o.Width, style: style{color: o.Mode.Color, ascii: o.Mode.ASCII}}
}

func (l *liveRenderer) Event(e step.Event) {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	e = cleanEvent(e)
	l.mu.Lock()
	over := l.tracker.applyEvent(e)
	running := len(l.tracker.running)
	l.mu.Unlock()
	if over != nil {
		l.writeLine(Wrap(l.style.endedRow(over), l.width))
	}
	switch {
	case running > 0 && l.progress == nil && !l.closed:
		l.progress = mpb.New(mpb.WithOutput(l.w), mpb.WithAutoRefresh())
		l.bar = l.progress.MustAdd(0, mpb.BarFillerFunc(l.drawSummary), mpb.BarFillerTrim(),
			mpb.BarExtender(mpb.BarFillerFunc(l.drawTasks), true))
	case running == 0:
		l.stopDrawing()
	}
}

// stopDrawing removes the drawn rows and stops the redraws.
func (l *liveRenderer) stopDrawing() {
	if l.progress != nil {
		l.bar.Abort(true)
		l.progress.Wait()
		l.progress, l.bar = nil, nil
	}
}

// writeLine writes a line that stays on the terminal. It ignores errors, which
// mean that the terminal was closed.
func (l *liveRenderer) writeLine(text string) {
	switch {
	case l.closed:
	case l.progress != nil:
		_, _ = io.WriteString(l.progress, text+"\n")
	default:
		_, _ = io.WriteString(l.w, text+"\n")
	}
}

func (l *liveRenderer) Note(text string) {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	l.writeLine(text)
}

func (l *liveRenderer) Close() error {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	l.stopDrawing()
	l.closed = true
	return nil
}

// drawSummary draws the last row, the progress of the whole run.
func (l *liveRenderer) drawSummary(w io.Writer, s decor.Statistics) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.tracker
	row := "  " + b.verb + ": "
	if b.count > 0 {
		row += fmt.Sprintf("%d of %d steps, ", b.endedCount, b.count)
	}
	now := l.now()
	row += FormatDuration(now.Sub(b.startedAt))
	if b.estimate != nil {
		if left, known := b.estimate.timeLeft(now); known {
			row += ", " + formatTimeLeft(left)
		}
	}
	_, err := io.WriteString(w, l.style.colorize(dim, truncateTo(row, s.AvailableWidth)))
	return err
}

// drawTasks draws the rows above the summary, two per running step.
func (l *liveRenderer) drawTasks(w io.Writer, s decor.Statistics) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	var rows strings.Builder
	for _, t := range l.tracker.running {
		rows.WriteString(l.style.runningRow(t, now, s.AvailableWidth) + "\n")
		if d := describeProgress(t); d != "" {
			rows.WriteString(l.style.colorize(dim, truncateTo("    "+d, s.AvailableWidth)) + "\n")
		}
	}
	_, err := io.WriteString(w, rows.String())
	return err
}

// style formats single rows. It has no state.
type style struct{ color, ascii bool }

// SGR codes of ECMA-48 §8.3.117.
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

// colorize returns text in the color with an SGR code.
func (s style) colorize(code, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// endedRow returns the row of a finished step.
func (s style) endedRow(t *task) string {
	mark, plainMark, code := "✓", "+", green
	switch t.last.State {
	case step.Skipped:
		mark, plainMark, code = "–", "-", dim
	case step.Failed:
		mark, plainMark, code = "✗", "x", red
		if t.last.Stopped {
			mark, plainMark, code = "■", "!", dim
		}
	}
	if s.ascii {
		mark = plainMark
	}
	return s.colorize(code, mark) + " " + stepLabel(t.last) + s.colorize(dim, ": "+describeOutcome(t))
}

// runningRow returns the first row of a running step: spinner, title, time and,
// if there is space for it, a progress bar.
func (s style) runningRow(t *task, now time.Time, width int) string {
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	if s.ascii {
		frames = []rune(`|/-\`)
	}
	spin := string(frames[int(now.UnixMilli()/150)%len(frames)])
	name, rest := stepLabel(t.last), "  "+FormatDuration(now.Sub(t.startedAt))
	if bar := s.progressBar(t, 20); bar != "" && runewidth.StringWidth("x "+name+"  "+bar+rest) <= width {
		rest = "  " + bar + rest
	}
	space := width - runewidth.StringWidth("x "+rest)
	if space < 1 {
		return s.colorize(bold, truncateTo(name, width))
	}
	return s.colorize(cyan, spin) + " " + s.colorize(bold, truncateTo(name, space)) + rest
}

// progressBar returns a bar of width columns, "" if the total is not known.
func (s style) progressBar(t *task, width int) string {
	if t.last.Total <= 0 {
		return ""
	}
	full, rest := "━", "╌"
	if s.ascii {
		full, rest = "#", "."
	}
	n := percentDone(t.last.Bytes, t.last.Total) * width / 100
	return strings.Repeat(full, n) + strings.Repeat(rest, width-n)
}

// truncateTo returns text cut to width columns, between two words where that keeps most of it.
func truncateTo(text string, width int) string {
	if width <= 0 {
		return ""
	}
	cut := runewidth.Truncate(text, width, "…")
	if kept, ok := strings.CutSuffix(cut, "…"); ok && cut != text && !strings.HasPrefix(text[len(kept):], " ") {
		if i := strings.LastIndexByte(kept, ' '); i > len(kept)/2 {
			return kept[:i] + "…"
		}
	}
	return cut
}
