package printer

import (
	"fmt"
	"io"
	"strings"

	"github.com/plinthdev/plinth/internal/action/reset"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"
)

// WriteResetResult writes what a reset would remove, removed, or could not
// remove. again is the command line without --dry-run; failed reports that the
// reset returned an error.
func WriteResetResult(w io.Writer, r reset.Result, again string, failed bool) {
	switch {
	case len(r.Leftovers) > 0:
		writeList(w, "Not removed from this host:", r.Leftovers)
	case failed:
	case r.Plan != nil:
		writeResetPlan(w, r, again)
	case r.Changed:
		writeResetDone(w, r)
	default:
		fmt.Fprintln(w, "Nothing to do: Plinth has not installed anything on this host.")
		writeList(w, "Retained:", r.Retained)
		writeResetNextCommand(w, "plinth install --bundle FILE")
	}
}

// writeResetDone writes the result of a reset that changed the host.
func writeResetDone(w io.Writer, r reset.Result) {
	deleted := ""
	if r.DeletedVolumes > 0 {
		deleted = "Deleted the data of " + ui.FormatCount(r.DeletedVolumes, "volume") + ".\n"
	}
	switch {
	case r.DataOnly && deleted != "":
	case r.DataOnly:
		fmt.Fprintln(w, "Removed what an earlier run left on this host.")
	case r.Node == "":
		fmt.Fprintln(w, "Removed the cluster from this host.")
	default:
		fmt.Fprintf(w, "This host no longer belongs to cluster %s; everything of the cluster was removed from it.\n", r.Cluster)
	}
	fmt.Fprint(w, deleted)
	writeBaselineComparison(w, r.Comparison)
	if r.Program != "" {
		fmt.Fprintf(w, "%s was removed too; for further commands on this host, use the vendor's executable.\n", r.Program)
	}
	fmt.Fprintf(w, "Log  %s\n", r.Log)
	writeList(w, "Retained:", r.Retained)
	switch {
	case len(r.FollowUp) > 0:
		writeList(w, "The cluster may still list this node. On a controller, run:", r.FollowUp)
		writeResetNextCommand(w, r.FollowUp[0]+"   (on a controller)")
	case r.Node != "":
		writeResetNextCommand(w, "plinth node list   (on another node)")
	default:
		writeResetNextCommand(w, "plinth install --bundle FILE")
	}
}

// writeBaselineComparison writes how the host compares to its state before the
// install.
func writeBaselineComparison(w io.Writer, p *reset.Comparison) {
	if p == nil {
		return
	}
	fmt.Fprintf(w, "Nothing is left: compared %s with the state before the install.\n", ui.FormatCount(p.Compared, "object"))
	const some = 10
	if len(p.OtherChanges) > 0 {
		writeList(w, "Changed since, but not by the cluster: "+ui.FormatCount(len(p.OtherChanges), "object"), p.OtherChanges[:min(some, len(p.OtherChanges))])
	}
}

// writeResetPlan writes the objects that would be removed, by kind.
func writeResetPlan(w io.Writer, r reset.Result, again string) {
	var gone []string // titles of the steps without anything to remove
	todo, total := 0, int64(0)
	for _, s := range r.Plan {
		if s.State == "done" {
			gone = append(gone, s.Title)
			continue
		}
		todo++
		total += s.Bytes
		fmt.Fprintln(w, resetPlanHeading(s))
		for _, line := range groupObjects(s.Step, s.Affects) {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	if todo == 0 {
		fmt.Fprintln(w, "Nothing to remove.")
	} else if len(gone) > 0 {
		fmt.Fprintf(w, "Nothing found to: %s\n", strings.Join(lowercaseFirst(gone), ", "))
	}
	writeList(w, "Would be retained:", r.Retained)
	writeList(w, "The cluster would still list this node. Afterwards, on a controller, run:", r.FollowUp)
	if todo == 0 {
		writeResetNextCommand(w, "plinth install --bundle FILE")
		return
	}
	fmt.Fprintf(w, "\nThis would free %s on disk; nothing was changed. For the full list, add -o json.\n", ui.FormatBytes(total))
	if r.IsOneOfSeveral {
		again = "plinth reset node"
	}
	writeResetNextCommand(w, again)
}

// resetPlanHeading returns the title of a step with the number or the size of
// its objects: "Unmount what the cluster mounted: 54".
func resetPlanHeading(s step.Planned) string {
	switch {
	case s.Bytes > 0:
		return s.Title + ": " + ui.FormatBytes(s.Bytes)
	case len(s.Affects) > 1:
		return fmt.Sprintf("%s: %d", s.Title, len(s.Affects))
	}
	return s.Title
}

// lowercaseFirst returns titles with their first letter in lower case.
func lowercaseFirst(titles []string) []string {
	all := make([]string, 0, len(titles))
	for _, t := range titles {
		all = append(all, strings.ToLower(t[:1])+t[1:])
	}
	return all
}

// writeList writes title and the indented lines of all, or nothing if there are
// none.
func writeList(w io.Writer, title string, all []string) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, title)
	for _, what := range all {
		fmt.Fprintf(w, "  %s\n", what)
	}
}

// writeResetNextCommand ends an output with the next command to run.
func writeResetNextCommand(w io.Writer, command string) { fmt.Fprintf(w, "\nNext: %s\n", command) }
