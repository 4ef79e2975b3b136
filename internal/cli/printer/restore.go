package printer

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action/restore"
	"github.com/plinthdev/plinth/internal/ui"
)

// WriteRestoreResult writes what a restore planned or did, and which nodes have to join again. again is the
// command line without --plan.
func WriteRestoreResult(w io.Writer, r restore.Result, again string, failed bool) {
	switch n := r.NewHost; {
	case n != nil && n.Preflights != nil && n.Preflights.Failed > 0:
		fmt.Fprint(w, n.Preflights.Text())
	case failed:
	case r.Plan != nil:
		if n != nil {
			writePreflightWarnings(w, n.Preflights)
		}
		writePlan(w, r.Plan, again)
	case r.Snapshot != nil:
		writeRestoredSnapshot(w, r)
	case n != nil:
		writeRestoredHost(w, r)
	default:
		fmt.Fprintln(w, "The control plane is restored: this host is the only controller of its cluster. Pods kept running.")
		writeLostControllers(w, r)
		writeRestoreEnd(w, r)
	}
}

// writeLostControllers writes which controllers are lost, and how they come back.
func writeLostControllers(w io.Writer, r restore.Result) {
	if len(r.Lost) == 0 {
		return
	}
	fmt.Fprintf(w, "Lost controllers: %s\n", strings.Join(r.Lost, ", "))
	fmt.Fprintln(w, "Do not start k0s on them with their old data. To have them back:")
	for _, name := range r.Lost {
		if !r.Removed {
			fmt.Fprintf(w, "  here:      plinth node remove %s --force\n", QuoteShellWord(name))
		}
	}
	fmt.Fprint(w, "  on each:   sudo plinth reset node\n  here:      plinth token create --role controller   (prints the line to run on each)\n")
}

// writeRestoredSnapshot writes the result of the restore of a snapshot.
func writeRestoredSnapshot(w io.Writer, r restore.Result) {
	n := r.NewHost
	fmt.Fprintf(w, "The snapshot %s of %s is restored, with %s of volumes.\n", r.Snapshot.Name, r.TakenAt.Format(time.RFC3339), ui.FormatBytes(r.Snapshot.Bytes))
	writeWarnings(w, n.Warnings)
	fmt.Fprintf(w, "Admin console  %s   (the password is that of the snapshot; for a new one: plinth console reset-password)\n", n.ConsoleURL)
	fmt.Fprintf(w, "Snapshots      %s   (new ones go there, too)\n", r.Snapshot.From)
	if r.Log != "" {
		fmt.Fprintf(w, "Log            %s\n", r.Log)
	}
	writeNextCommand(w, "plinth token create --role controller")
}

// writeRestoredHost writes the result of a restore on a host that had no cluster.
func writeRestoredHost(w io.Writer, r restore.Result) {
	n := r.NewHost
	fmt.Fprintln(w, "The cluster is restored: this host is its only controller.")
	writeWarnings(w, n.Warnings)
	if len(n.Absent) > 0 {
		fmt.Fprintf(w, "Nodes that are not Ready: %s\n", strings.Join(n.Absent, ", "))
		fmt.Fprintln(w, "They keep their pods and their data. If they do not become Ready in a minute, they do not know this host:")
		fmt.Fprint(w, "  here:      plinth token create --role worker   (prints the line to run on each; it changes only the address)\n")
		fmt.Fprintln(w, "If they are lost:")
		for _, name := range n.Absent {
			fmt.Fprintf(w, "  here:      plinth node remove %s --force\n", QuoteShellWord(name))
		}
	}
	writeLostControllers(w, r)
	if n.ConsoleURL != "" {
		fmt.Fprintf(w, "Admin console  %s   (the password is that of the backup; for a new one: plinth console reset-password)\n", n.ConsoleURL)
		fmt.Fprintln(w, "Its database was on a lost controller: install the license again, or restore a snapshot of the application.")
	}
	writeRestoreEnd(w, r)
}

// writeWarnings writes what is lost or not ready.
func writeWarnings(w io.Writer, all []string) {
	for _, text := range all {
		fmt.Fprintf(w, "Warning: %s\n", text)
	}
}

// writeRestoreEnd writes which add-ons are not ready, and what to do next.
func writeRestoreEnd(w io.Writer, r restore.Result) {
	next := "plinth node list"
	if r.NotReady != "" {
		fmt.Fprintf(w, "Not ready yet  %s\n", r.NotReady)
		next = "plinth status   (until all add-ons are ready)"
	}
	if r.Log != "" {
		fmt.Fprintf(w, "Log            %s\n", r.Log)
	}
	writeNextCommand(w, next)
}
