// Package resets writes the result of a reset as text: what it would remove,
// grouped, what it removed, and what is left. The JSON form has the full lists.
package resets

import (
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/app/reset"
	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"
)

// WriteResetResult writes what a reset would remove, removed, or could not
// remove. again is the command line without --dry-run; failed reports that the
// reset returned an error.
func Write(w io.Writer, r reset.Result, again string, failed bool) {
	switch {
	case len(r.Left) > 0:
		list(w, "Not removed from this host:", r.Left)
	case failed:
	case r.Plan != nil:
		plan(w, r, again)
	case r.Changed:
		done(w, r)
	default:
		fmt.Fprintln(w, "Nothing to do: Plinth has not installed anything on this host.")
		list(w, "Retained:", r.Kept)
		next(w, "plinth install --bundle FILE")
	}
}

// writeResetDone writes the result of a reset that changed the host.
func done(w io.Writer, r reset.Result) {
	if r.Node == "" {
		fmt.Fprintln(w, "Removed the cluster from this host.")
	} else {
		fmt.Fprintf(w, "This host no longer belongs to cluster %s; everything of the cluster was removed from it.\n", r.Cluster)
	}
	proved(w, r.Proof)
	fmt.Fprintf(w, "Log  %s\n", r.Log)
	list(w, "Retained:", r.Kept)
	switch {
	case len(r.Remains) > 0:
		list(w, "The cluster still lists this node. On a controller, run:", r.Remains)
		next(w, r.Remains[0]+"   (on a controller)")
	case r.Node != "":
		next(w, "plinth node list   (on another node)")
	default:
		next(w, "plinth install --bundle FILE")
	}
}

// writeBaselineComparison writes how the host compares to its state before the
// install.
func proved(w io.Writer, p *reset.Proof) {
	if p == nil {
		return
	}
	fmt.Fprintf(w, "Nothing is left: compared %s with the state before the install.\n", answer.Count(p.Compared, "object"))
	const some = 10
	if len(p.Since) > 0 {
		list(w, "Changed since, but not by the cluster: "+answer.Count(len(p.Since), "object"), p.Since[:min(some, len(p.Since))])
	}
}

// writeResetPlan writes the objects that would be removed, by kind.
func plan(w io.Writer, r reset.Result, again string) {
	var gone []string // titles of the steps without anything to remove
	todo, total := 0, int64(0)
	for _, s := range r.Plan {
		if s.State == "done" {
			gone = append(gone, s.Title)
			continue
		}
		todo++
		total += s.Bytes
		fmt.Fprintln(w, heading(s))
		for _, line := range fold(s.Step, s.Touches) {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	if todo == 0 {
		fmt.Fprintln(w, "Nothing to remove.")
	} else if len(gone) > 0 {
		fmt.Fprintf(w, "Nothing found to: %s\n", strings.Join(lowered(gone), ", "))
	}
	list(w, "Would be retained:", r.Kept)
	list(w, "The cluster would still list this node. Afterwards, on a controller, run:", r.Remains)
	if todo == 0 {
		next(w, "plinth install --bundle FILE")
		return
	}
	fmt.Fprintf(w, "\nThis would free %s on disk; nothing was changed. For the full list, add -o json.\n", ui.Bytes(total))
	next(w, again)
}

// resetPlanHeading returns the title of a step with the number or the size of
// its objects: "Unmount what the cluster mounted: 54".
func heading(s step.Planned) string {
	switch {
	case s.Bytes > 0:
		return s.Title + ": " + ui.Bytes(s.Bytes)
	case len(s.Touches) > 1:
		return fmt.Sprintf("%s: %d", s.Title, len(s.Touches))
	}
	return s.Title
}

// lowercaseFirst returns titles with their first letter in lower case.
func lowered(titles []string) []string {
	all := make([]string, 0, len(titles))
	for _, t := range titles {
		all = append(all, strings.ToLower(t[:1])+t[1:])
	}
	return all
}

// writeList writes title and the indented lines of all, or nothing if there are
// none.
func list(w io.Writer, title string, all []string) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, title)
	for _, what := range all {
		fmt.Fprintf(w, "  %s\n", what)
	}
}

// writeResetNextCommand ends an output with the next command to run.
func next(w io.Writer, command string) { fmt.Fprintf(w, "\nNext: %s\n", command) }
