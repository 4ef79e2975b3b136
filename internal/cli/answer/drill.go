package answer

import (
	"fmt"
	"io"

	"github.com/plinthdev/plinth/internal/app/drill"
)

// WriteFailpointList writes the names of failpoints, one per line.
func Failpoints(w io.Writer, names []string) {
	for _, name := range names {
		fmt.Fprintln(w, name)
	}
	next(w, "plinth debug fault-test run --host-is-disposable -- install --bundle FILE")
}

// WriteFaultTestResult writes one row per kill: where, what ran next, and its result.
func Drilled(w io.Writer, r drill.Result) {
	t := table(w, "KILLED AT", "AFTER", "IN STEP", "THEN", "FOR", "RESULT")
	for _, k := range r.Rows {
		if k.Result == drill.Unreached {
			row(t, k.Point, "", "", "", "", k.Result)
			continue
		}
		row(t, k.Point, seconds(k.Killed), k.Step, k.Next, seconds(k.Seconds), words(k.Result, k.Detail))
	}
	_ = t.Flush()
	fmt.Fprintf(w, "\n%d kills, %d failed, in %s; mode %s, seed %d\n", r.Kills, r.Failed, seconds(r.Seconds), r.Way, r.Seed)
	if r.Failed == 0 {
		next(w, "plinth status")
	} else {
		next(w, "plinth reset cluster")
	}
}

func seconds(s float64) string { return fmt.Sprintf("%.1f s", s) }
