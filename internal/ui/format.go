package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/step"
)

// FormatBytes returns a number of bytes in decimal units: "1.2 GB".
func FormatBytes(n int64) string {
	units := []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1000, 0
	for v >= 999.5 && unit < len(units)-1 {
		v, unit = v/1000, unit+1
	}
	if v < 9.95 {
		return fmt.Sprintf("%.1f %s", v, units[unit])
	}
	return fmt.Sprintf("%.0f %s", v, units[unit])
}

// FormatDuration returns a duration with about two digits: "0.4s", "12s",
// "3m05s", "1h02m".
func FormatDuration(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < 59500*time.Millisecond:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour-500*time.Millisecond:
		s := int64(d.Round(time.Second) / time.Second)
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	default:
		m := int64(d.Round(time.Minute) / time.Minute)
		return fmt.Sprintf("%dh%02dm", m/60, m%60)
	}
}

// stepLabel returns the number and title of a step: "[ 3/18] Import images".
func stepLabel(e step.Event) string {
	title := e.Title
	if title == "" {
		title = e.Step
	}
	if e.Count == 0 {
		return title
	}
	width := len(fmt.Sprint(e.Count))
	return fmt.Sprintf("[%*d/%d] %s", width, e.Index+1, e.Count, title)
}

// describeOutcome returns how a step ended and how long it took.
func describeOutcome(t *task) string {
	took := FormatDuration(t.last.Time.Sub(t.startedAt))
	switch t.last.State {
	case step.Skipped:
		return joinNonEmpty(": ", "already done", t.last.Message)
	case step.Failed: // the error at the end of the verb has the cause
		if t.last.Stopped {
			return "stopped after " + took
		}
		return "failed after " + took
	default:
		return joinNonEmpty(": ", "done in "+took, t.last.Message)
	}
}

// describeProgress returns the bytes, rate and message of a running step:
// "412 MB of 1.2 GB (34%), 87 MB/s; kotsadm:v1.131.2".
func describeProgress(t *task) string {
	e, amount := t.last, ""
	if e.Total > 0 {
		amount = fmt.Sprintf("%s of %s (%d%%)", FormatBytes(e.Bytes), FormatBytes(e.Total), percentDone(e.Bytes, e.Total))
	} else if e.Bytes > 0 {
		amount = FormatBytes(e.Bytes)
	}
	if r := t.bytesPerSecond(); r > 0 {
		amount += ", " + FormatBytes(int64(r)) + "/s"
	}
	return joinNonEmpty("; ", amount, e.Message)
}

// percentDone returns done in whole percent of total; 100 only if all is done.
func percentDone(done, total int64) int {
	return int(float64(done) / float64(total) * 100)
}

// joinNonEmpty joins the parts that are not empty with sep.
func joinNonEmpty(sep string, parts ...string) string {
	kept := parts[:0:0]
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, sep)
}

// cleanEvent returns e with texts that stay on one line and cannot control the terminal.
func cleanEvent(e step.Event) step.Event {
	e.Verb, e.Step, e.Title, e.Message = CleanLine(e.Verb), CleanLine(e.Step), CleanLine(e.Title), oneLine(e.Message)
	return e
}

// oneLine returns s on one line and without colors, because the log of a pod can have both. All other
// control characters become visible.
func oneLine(s string) string {
	var plain strings.Builder
	inSequence := false // ECMA-48 control sequence: from ESC [ to the first character from @ to ~
	for i, r := range s {
		switch {
		case strings.HasPrefix(s[i:], "\x1b["):
			inSequence = true
		case inSequence:
			inSequence = r < '@' || r > '~' || strings.HasPrefix(s[i-1:], "\x1b[")
		default:
			plain.WriteRune(r)
		}
	}
	return CleanLine(strings.Join(strings.Fields(plain.String()), " "))
}

// FormatCount returns n with the noun what: "1 error", "3 errors".
func FormatCount(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
