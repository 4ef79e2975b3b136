package printer

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/action/support"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/ui"
)

// WriteDiagnosis writes the findings, most likely cause first, each with its evidence and what to do.
func WriteDiagnosis(w io.Writer, r support.Report) {
	fmt.Fprintln(w, diagnosisSummary(r))
	for i, f := range r.Findings {
		note := ""
		if f.Severity == diagnosis.Warning {
			note = "warning, "
		}
		fmt.Fprintf(w, "\n%d. %s (%s%s)\n", i+1, f.Culprit, note, f.Rule)
		for _, e := range f.Evidence {
			fmt.Fprintf(w, "   - %s\n", ui.CleanLine(e))
		}
		fmt.Fprintf(w, "   → %s\n", strings.ReplaceAll(f.Fix, "\n", "\n     "))
	}
	if len(r.Unknown) > 0 {
		fmt.Fprintln(w)
		var lines []string
		for _, u := range r.Unknown {
			lines = append(lines, ui.CleanLine(u.Fact+": "+u.Reason))
		}
		writeList(w, "Not checked", lines)
	}
	if len(r.Findings) == 0 {
		writeNextCommand(w, "plinth status")
		return
	}
	writeNextCommand(w, "plinth support-bundle")
}

// diagnosisSummary returns how much was found, and where.
func diagnosisSummary(r support.Report) string {
	where := r.Host
	if r.Role != "" {
		where += " (" + r.Role + ")"
	}
	errors, warnings := 0, 0
	for _, f := range r.Findings {
		if f.Severity == diagnosis.Error {
			errors++
		} else {
			warnings++
		}
	}
	switch {
	case len(r.Findings) == 0:
		return where + ": no problem was found."
	case errors == 0:
		return fmt.Sprintf("%s: no problem was found, %s.", where, ui.FormatCount(warnings, "warning"))
	case warnings == 0:
		return fmt.Sprintf("%s: %s, most likely cause first.", where, ui.FormatCount(errors, "problem"))
	}
	return fmt.Sprintf("%s: %s and %s, most likely cause first.", where, ui.FormatCount(errors, "problem"), ui.FormatCount(warnings, "warning"))
}

// WriteSupportBundle writes where the bundle is, what was removed from it, and what is not in it.
func WriteSupportBundle(w io.Writer, r support.BundleResult) {
	fmt.Fprintf(w, "%s: %s, %s\n", r.Path, ui.FormatBytes(r.Size), ui.FormatCount(r.Files, "file"))
	collected, missing := nodeNames(r.Nodes)
	if len(collected) > 0 {
		fmt.Fprintf(w, "It describes %s: %s\n", ui.FormatCount(len(collected), "node"), strings.Join(collected, ", "))
	}
	fmt.Fprintf(w, "%s removed; redactions.json in it lists where, without the values.\n", ui.FormatCount(r.Redacted, "secret"))
	if r.Encrypted {
		fmt.Fprintf(w, "It is encrypted. The recipient reads it with: age -d -i KEYFILE %s | tar xz\n", QuoteShellWord(r.Path))
	} else {
		fmt.Fprintln(w, "It is not encrypted. Names, addresses and logs are in it: read it before you send it.")
	}
	if len(missing) > 0 {
		fmt.Fprintln(w)
		writeList(w, "Nodes that are not in it", missing)
	}
	var lines []string
	for _, l := range r.LeftOut {
		isNode := slices.ContainsFunc(r.Nodes, func(n support.NodeResult) bool { return !n.Collected && strings.HasSuffix(l.File, "/"+n.Name+"/") })
		if !isNode && !l.Expected { // nodes are named above
			lines = append(lines, ui.CleanLine(l.File+": "+l.Reason))
		}
	}
	if len(lines) > 0 {
		fmt.Fprintln(w)
		writeList(w, "Not complete (left-out.json in the bundle)", lines)
	}
	if cause := likelyCause(r); cause != "" {
		fmt.Fprintln(w, "\nMost likely cause of what does not work: "+cause)
	}
	writeNextCommand(w, "plinth diagnose")
}

// nodeNames returns the names of the nodes in a bundle, and those that are not in it, with the reason.
func nodeNames(nodes []support.NodeResult) (collected, missing []string) {
	for _, n := range nodes {
		if n.Collected {
			collected = append(collected, n.Name)
		} else {
			missing = append(missing, ui.CleanLine(n.Name+": "+n.Reason))
		}
	}
	return collected, missing
}

// likelyCause returns the first finding of this host or else of another node that is an error, else the first one; "" if
// there is none.
func likelyCause(r support.BundleResult) string {
	type located struct {
		node string
		diagnosis.Finding
	}
	var all []located
	for _, f := range r.Findings {
		all = append(all, located{"", f})
	}
	for _, n := range r.Nodes {
		for _, f := range n.Findings {
			all = append(all, located{"node " + n.Name + ": ", f})
		}
	}
	if len(all) == 0 {
		return ""
	}
	i := max(0, slices.IndexFunc(all, func(f located) bool { return f.Severity == diagnosis.Error }))
	return ui.CleanLine(fmt.Sprintf("%s%s (%s)", all[i].node, all[i].Culprit, all[i].Rule))
}

// DescribeLikelyCause returns a finding in a few lines, for the end of a run that failed.
func DescribeLikelyCause(f diagnosis.Finding) string {
	text := fmt.Sprintf("Likely cause: %s (%s)", f.Culprit, f.Rule)
	if len(f.Evidence) > 0 {
		text += ": " + f.Evidence[0]
	}
	fix, _, _ := strings.Cut(f.Fix, "\n")
	return text + "\n→ " + fix + "\nMore: plinth diagnose"
}
