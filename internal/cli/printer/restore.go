package printer

import (
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/action/restore"
)

// WriteRestoreResult writes what a restore planned or did, and which controllers have to join again. again is
// the command line without --plan.
func WriteRestoreResult(w io.Writer, r restore.Result, again string) {
	if r.Plan != nil {
		writePlan(w, r.Plan, again)
		return
	}
	fmt.Fprintln(w, "The control plane is restored: this host is the only controller of its cluster. Pods kept running.")
	if len(r.Lost) > 0 {
		fmt.Fprintf(w, "Lost controllers: %s\n", strings.Join(r.Lost, ", "))
		fmt.Fprintln(w, "Do not start k0s on them with their old data. To have them back:")
		for _, name := range r.Lost {
			if !r.Removed {
				fmt.Fprintf(w, "  here:      plinth node remove %s --force\n", QuoteShellWord(name))
			}
		}
		fmt.Fprint(w, "  on each:   sudo plinth reset node\n  here:      plinth token create --role controller   (prints the line to run on each)\n")
	}
	if r.Log != "" {
		fmt.Fprintf(w, "Log            %s\n", r.Log)
	}
	writeNextCommand(w, "plinth node list")
}
