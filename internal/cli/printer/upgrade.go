package printer

import (
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/action/upgrade"
)

// WriteUpgradeResult writes what an upgrade or a rollback found, planned or did. again is the command line
// without --plan; failed reports that it returned an error.
func WriteUpgradeResult(w io.Writer, r upgrade.Result, again string, failed bool) {
	switch {
	case r.Preflights != nil && r.Preflights.Failed > 0:
		fmt.Fprint(w, r.Preflights.Text())
	case failed:
	case r.Plan != nil:
		writePreflightWarnings(w, r.Preflights)
		if len(r.Changes) > 0 {
			fmt.Fprintf(w, "The Installer differs:\n  %s\n\n", strings.Join(r.Changes, "\n  "))
		}
		writePlan(w, r.Plan, again)
	case !r.Changed:
		fmt.Fprintln(w, "Nothing to do: the cluster is in this state.")
		writeNextCommand(w, "plinth status")
	case r.RolledBack:
		fmt.Fprintf(w, "The state before the upgrade is restored: bundle %s.\n", r.To)
		writeNextCommand(w, "plinth status")
	case r.To == "":
		fmt.Fprintln(w, "The snapshot is removed: the last upgrade cannot be rolled back any more.")
		writeNextCommand(w, "plinth status")
	default:
		fmt.Fprintf(w, "The cluster is upgraded to bundle %s.\n", r.To)
		if r.ConsoleURL != "" {
			fmt.Fprintf(w, "Admin console: %s\n", r.ConsoleURL)
		}
		fmt.Fprintln(w, "To roll it back: sudo plinth upgrade --rollback, until the next upgrade or: sudo plinth upgrade --commit")
		writeNextCommand(w, "plinth status")
	}
}
