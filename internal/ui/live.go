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
type live struct {
	turn   sync.Mutex // serializes writers; not held while drawing
	w      io.Writer
	now    func() time.Time
	style  style
	draw   *mpb.Progress // nil while no step runs
	foot   *mpb.Bar      // draws all rows; mpb only moves the cursor
	closed bool

	mu    sync.Mutex // guards board, also while drawing
	board board
}

var _ Renderer = (*live)(nil)

func newLive(o Options) *live {
	return &live{w: o.Err, now: o.Now, style: style{color: o.Mode.Color, ascii: o.Mode.ASCII}}
}

func (l *live) Event(e step.Event) {
	l.turn.Lock()
	defer l.turn.Unlock()
	e.Message = oneLine(e.Message)
	l.mu.Lock()
	over := l.board.apply(e)
	running := len(l.board.running)
	l.mu.Unlock()
	if over != nil {
		l.lasting(l.style.over(over))
	}
	switch {
	case running > 0 && l.draw == nil && !l.closed:
		l.draw = mpb.New(mpb.WithOutput(l.w), mpb.WithAutoRefresh())
		l.foot = l.draw.MustAdd(0, mpb.BarFillerFunc(l.summary), mpb.BarFillerTrim(),
			mpb.BarExtender(mpb.BarFillerFunc(l.tasks), true))
	case running == 0:
		l.leave()
	}
}

// stopDrawing removes the drawn rows and stops the redraws.
func (l *live) leave() {
	if l.draw != nil {
		l.foot.Abort(true)
		l.draw.Wait()
		l.draw, l.foot = nil, nil
	}
}

// writeLine writes a line that stays on the terminal. It ignores errors, which
// mean that the terminal was closed.
func (l *live) lasting(text string) {
	switch {
	case l.closed:
	case l.draw != nil:
		_, _ = io.WriteString(l.draw, text+"\n")
	default:
		_, _ = io.WriteString(l.w, text+"\n")
	}
}

func (l *live) Note(text string) {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.lasting(text)
}

func (l *live) Close() error {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.leave()
	l.closed = true
	return nil
}

// drawSummary draws the last row, the progress of the whole run.
func (l *live) summary(w io.Writer, s decor.Statistics) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.board
	row := "  " + b.verb + ": "
	if b.count > 0 {
		row += fmt.Sprintf("%d of %d steps, ", b.ended, b.count)
	}
	row += Duration(l.now().Sub(b.began))
	_, err := io.WriteString(w, l.style.paint(dim, fit(row, s.AvailableWidth)))
	return err
}

// drawTasks draws the rows above the summary, two per running step.
func (l *live) tasks(w io.Writer, s decor.Statistics) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	var rows strings.Builder
	for _, t := range l.board.running {
		rows.WriteString(l.style.head(t, now, s.AvailableWidth) + "\n")
		if d := details(t); d != "" {
			rows.WriteString(l.style.paint(dim, fit("    "+d, s.AvailableWidth)) + "\n")
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
func (s style) paint(code, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// endedRow returns the row of a finished step.
func (s style) over(t *task) string {
	mark, plainMark, code := "✓", "+", green
	switch t.last.State {
	case step.Skipped:
		mark, plainMark, code = "–", "-", dim
	case step.Failed:
		mark, plainMark, code = "✗", "x", red
	}
	if s.ascii {
		mark = plainMark
	}
	return s.paint(code, mark) + " " + label(t.last) + s.paint(dim, ": "+outcome(t))
}

// runningRow returns the first row of a running step: spinner, title, time and,
// if there is space for it, a progress bar.
func (s style) head(t *task, now time.Time, width int) string {
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	if s.ascii {
		frames = []rune(`|/-\`)
	}
	spin := string(frames[int(now.UnixMilli()/150)%len(frames)])
	name, rest := label(t.last), "  "+Duration(now.Sub(t.began))
	if bar := s.bar(t, 20); bar != "" && runewidth.StringWidth("x "+name+"  "+bar+rest) <= width {
		rest = "  " + bar + rest
	}
	space := width - runewidth.StringWidth("x "+rest)
	if space < 1 {
		return s.paint(bold, fit(name, width))
	}
	return s.paint(cyan, spin) + " " + s.paint(bold, fit(name, space)) + rest
}

// progressBar returns a bar of width columns, "" if the total is not known.
func (s style) bar(t *task, width int) string {
	if t.last.Total <= 0 {
		return ""
	}
	full, rest := "━", "╌"
	if s.ascii {
		full, rest = "#", "."
	}
	n := percent(t.last.Bytes, t.last.Total) * width / 100
	return strings.Repeat(full, n) + strings.Repeat(rest, width-n)
}

// truncateTo returns text cut to width columns.
func fit(text string, width int) string {
	if width <= 0 {
		return ""
	}
	return runewidth.Truncate(text, width, "…")
}
