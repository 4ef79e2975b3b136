package printer

import (
	"fmt"
	"io"

	"github.com/plinthdev/plinth/internal/action/faulttest"
)

// WriteFailpointList writes the names of failpoints, one per line.
func WriteFailpointList(w io.Writer, names []string) {
	for _, name := range names {
		fmt.Fprintln(w, name)
	}
	writeNextCommand(w, "plinth debug fault-test run --host-is-disposable -- install --bundle FILE")
}

// WriteFaultTestResult writes one row per kill: where, what ran next, and its result.
func WriteFaultTestResult(w io.Writer, r faulttest.Result) {
	t := newTable(w, "KILLED AT", "AFTER", "IN STEP", "THEN", "FOR", "RESULT")
	for _, k := range r.Rows {
		if k.Result == faulttest.Unreached {
			writeRow(t, k.Point, "", "", "", "", k.Result)
			continue
		}
		writeRow(t, k.Point, formatSeconds(k.KilledAfter), k.Step, k.Next, formatSeconds(k.Seconds), joinNonEmpty(k.Result, k.Detail))
	}
	_ = t.Flush()
	fmt.Fprintf(w, "\n%d kills, %d failed, in %s; mode %s, seed %d\n", r.Kills, r.Failed, formatSeconds(r.Seconds), r.Mode, r.Seed)
	if r.Failed == 0 {
		writeNextCommand(w, "plinth status")
	} else {
		writeNextCommand(w, "plinth reset cluster")
	}
}

func formatSeconds(s float64) string { return fmt.Sprintf("%.1f s", s) }
