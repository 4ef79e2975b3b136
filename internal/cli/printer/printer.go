// Package printer writes the results and errors of commands, as text that ends
// with the next command to run, or as JSON.
package printer

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/action/bundle"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"
)

// WriteLintReport writes the findings of lint, or that the files are valid.
func WriteLintReport(w io.Writer, r spec.Report) {
	for _, f := range r.Findings {
		fmt.Fprintln(w, f)
	}
	if r.Ignored != nil {
		fmt.Fprintln(w, "Not for Plinth, so not checked: "+describeIgnored(*r.Ignored))
	}
	if spec.HasErrors(r.Findings) || r.Gate != nil && !r.Gate.Allowed() {
		return
	}
	if r.Gate != nil {
		fmt.Fprintln(w, r.Gate.Explain(r.Title).Cause)
	} else if r.Installer == nil {
		fmt.Fprintln(w, "the KOTS version gate had nothing to check: there is no Plinth Installer")
	}
	warnings := "no warnings"
	if n := len(r.Findings); n > 0 {
		warnings = ui.FormatCount(n, "warning")
	}
	fmt.Fprintf(w, "%s: valid, %s\n", strings.Join(r.Files, ", "), warnings)
	if r.Installer != nil {
		writeNextCommand(w, suggestBuildCommand(r))
	}
}

// describeIgnored returns the documents and files that lint did not check, in words.
func describeIgnored(i spec.Ignored) string {
	var parts []string
	for _, label := range slices.Sorted(maps.Keys(i.Documents)) {
		parts = append(parts, fmt.Sprintf("%d %s", i.Documents[label], label))
	}
	if i.Files > 0 {
		parts = append(parts, ui.FormatCount(i.Files, "file")+" not YAML")
	}
	return strings.Join(parts, ", ")
}

// suggestBuildCommand returns the command that creates a bundle from the checked
// files.
func suggestBuildCommand(r spec.Report) string {
	command := "plinth bundle build"
	for _, f := range r.Files {
		flag := " --installer "
		if len(r.Applications) > 0 && f == r.Applications[0].File {
			flag = " --application "
		}
		command += flag + QuoteShellWord(f)
	}
	return command + " --output-file " + r.Installer.Metadata.Name + ".bundle"
}

// WriteBuildResult writes which bundle was created.
func WriteBuildResult(w io.Writer, r bundle.BuildResult) {
	fmt.Fprintf(w, "%s: %s\n%s\n", r.Path, ui.FormatBytes(r.Size), describeDigest(r.Digest.String()))
	if r.Signer == "" {
		fmt.Fprintln(w, "Not signed: hosts accept it only with --allow-unsigned. To sign it, use --sign-key.")
	} else {
		fmt.Fprintf(w, "Signed with key %s\n", r.Signer)
	}
	writeNextCommand(w, "plinth bundle inspect "+QuoteShellWord(r.Path))
}

// WriteMirrorResult writes what a folder with parts or a registry has, and how to build from it.
func WriteMirrorResult(w io.Writer, r bundle.MirrorResult, installer string) {
	images := ui.FormatCount(len(r.Images), "image")
	build := "plinth bundle build --installer " + QuoteShellWord(installer)
	if r.Registry == "" {
		fmt.Fprintf(w, "%s has %s, and %s\n", r.Path, images, strings.Join(r.HostFiles, ", "))
		writeNextCommand(w, build+" --source "+QuoteShellWord(r.Path)+" --output-file FILE")
		return
	}
	for _, m := range r.Mirrors {
		build += " --mirror " + QuoteShellWord(m)
	}
	if r.Releases == "" {
		fmt.Fprintf(w, "%s has %s. k0s and KOTS are not in it: builds download them from GitHub, or from --releases URL.\n", r.Registry, images)
	} else {
		fmt.Fprintf(w, "%s has %s\n%s has %s. Serve it with a web server; URL is its address.\n", r.Registry, images, r.Releases, strings.Join(r.HostFiles, ", "))
		build += " --releases URL"
	}
	writeNextCommand(w, build+" --output-file FILE")
}

// WriteBundleSummary writes the parts of a bundle with their versions and sizes.
func WriteBundleSummary(w io.Writer, b airgap.Summary, path string) {
	fmt.Fprintf(w, "%s\n%s\n%s\n\n", ui.CleanLine(joinNonEmpty(b.Name, b.Platform)), describeDigest(b.Digest.String()), capitalizeFirst(describeSignature(b)))
	t := newTable(w, "KIND", "NAME", "VERSION", "SIZE", "ON THE HOST", "LICENSE")
	images := false
	var standIns []string
	for _, it := range b.Items {
		images = images || it.Kind == format.KindImage
		if it.StandIn != "" {
			standIns = append(standIns, ui.CleanLine(it.Name+": "+it.StandIn))
			it.Version += " *"
		}
		unpacked := ""
		if it.Unpacked > 0 {
			unpacked = ui.FormatBytes(it.Unpacked)
		}
		writeRow(t, string(it.Kind), it.Name, it.Version, ui.FormatBytes(it.Size), unpacked, it.Licenses)
	}
	_ = t.Flush()
	if images {
		fmt.Fprintln(w, "\nNAME is the image reference that the cluster uses. VERSION is that of its content; the index pins it by digest.")
	}
	if len(standIns) > 0 {
		fmt.Fprintln(w)
		writeList(w, "* Stand-ins: built from the source of another version than their name says, as follows", standIns)
	}
	fmt.Fprintf(w, "\n%s in the file, in %s; %s on a host\n", ui.FormatBytes(b.Totals.File), ui.FormatCount(b.Totals.Blobs, "part"), ui.FormatBytes(b.Totals.OnHost.Total()))
	if b.Base != "" {
		fmt.Fprintf(w, "This is a delta to %s, which holds %s\n", b.Base, ui.FormatCount(b.Missing, "more part"))
	}
	writeNextCommand(w, "plinth bundle verify "+QuoteShellWord(path))
}

// describeDigest returns the digest of a bundle with a note that it is not the
// file's sha256sum.
func describeDigest(digest string) string {
	return digest + " (of the bundle's index, which pins all parts; sha256sum of the file differs)"
}

// capitalizeFirst returns s with its first letter in upper case.
func capitalizeFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// describeSignature returns whether a bundle is signed, its release number and
// when it expires.
func describeSignature(b airgap.Summary) string {
	text := "not signed"
	if b.Signed {
		text = "signed"
	}
	if b.Release > 0 {
		text += fmt.Sprintf(", release %d", b.Release)
	}
	if b.Expires != nil {
		text += ", expires " + b.Expires.Format(time.RFC3339)
	}
	return text
}

// WritePublishResult writes what was published and the command for customers.
func WritePublishResult(w io.Writer, r bundle.PublishResult) {
	fmt.Fprintf(w, "%s: %s for %s, to be served at %s\n", r.Path, ui.FormatBytes(r.Size), strings.Join(r.Platforms, ", "), r.URL)
	if r.Fingerprint != "" {
		fmt.Fprintf(w, "Its executables accept bundles signed with key %s\n", r.Fingerprint)
	}
	if !r.Signed {
		fmt.Fprintln(w, "SHA256SUMS is not signed: install.sh and the executables are only as trustworthy as the web server")
	}
	fmt.Fprintf(w, "\nUpload the folder, so that %s/install.sh is reachable. Then, on a host:\n", r.URL)
	writeNextCommand(w, "curl -fsSL "+r.URL+"/install.sh | sudo bash")
}

// WriteEmbedResult writes which executable was created.
func WriteEmbedResult(w io.Writer, r bundle.EmbedResult) {
	fmt.Fprintf(w, "%s: %s\n", r.Path, ui.FormatBytes(r.Size))
	if r.Fingerprint != "" {
		fmt.Fprintf(w, "It accepts bundles signed with key %s\n", r.Fingerprint)
	}
	if r.Bundle == "" {
		writeNextCommand(w, "sudo "+shellPath(r.Path)+" install --bundle FILE")
		return
	}
	fmt.Fprintf(w, "It contains the bundle %s\n", r.Bundle)
	writeNextCommand(w, "sudo "+shellPath(r.Path)+" install")
}

// WriteDiffResult writes which delta was created and how small it is.
func WriteDiffResult(w io.Writer, r bundle.DiffResult, old string) {
	fmt.Fprintf(w, "%s: %s, %.1f %% of the full bundle (%s); %s complete, %d as patches of older parts\n",
		r.Path, ui.FormatBytes(r.Size), 100*float64(r.Size)/float64(r.Full), ui.FormatBytes(r.Full), ui.FormatCount(r.Parts, "part"), r.Patches)
	fmt.Fprintf(w, "Applied to %s it gives %s\n", r.Base, r.Digest)
	writeNextCommand(w, "plinth bundle patch "+QuoteShellWord(old)+" "+QuoteShellWord(r.Path)+" --output-file FILE")
}

// WritePatchResult writes which bundle a delta gave.
func WritePatchResult(w io.Writer, r bundle.BuildResult) {
	fmt.Fprintf(w, "%s: %s, %s, every byte verified\n", r.Path, ui.FormatBytes(r.Size), r.Digest)
	writeNextCommand(w, "plinth install --bundle "+QuoteShellWord(r.Path))
}

// shellPath returns path so that a shell runs the file instead of searching PATH.
func shellPath(path string) string {
	if !strings.Contains(path, "/") {
		path = "./" + path
	}
	return QuoteShellWord(path)
}

// WriteVerifyResult writes that a bundle is complete and who signed it. keyFile is the file with the
// key that verified it; "" for the key embedded in this executable, or for none.
func WriteVerifyResult(w io.Writer, b airgap.Summary, path, keyFile string) {
	fmt.Fprintf(w, "%s is complete: verified %s in %s\n%s\n%s\n", path, ui.FormatBytes(b.Totals.Content), ui.FormatCount(b.Totals.Blobs, "part"), describeDigest(b.Digest.String()), capitalizeFirst(describeSignature(b)))
	install := "plinth install --bundle " + QuoteShellWord(path)
	switch {
	case b.Verified != "":
		fmt.Fprintf(w, "Verified with key %s\n", b.Verified)
		if keyFile != "" {
			install += " --verify-key " + QuoteShellWord(keyFile)
		}
	case b.Signed:
		fmt.Fprintln(w, "The signature was not verified: give the vendor's public key with --verify-key.")
		install += " --verify-key FILE"
	default:
		fmt.Fprintln(w, "It is not known who built it: hosts accept it only with --allow-unsigned.")
		install += " --allow-unsigned"
	}
	writeNextCommand(w, install)
}

// writePlan writes steps; below each step that is not done it writes why and
// what the step changes. again is the command that executes the plan.
func writePlan(w io.Writer, steps []step.Planned, again string) {
	todo, width := 0, 0
	for _, s := range steps {
		width = max(width, len(s.Step))
		if s.State != "done" {
			todo++
		}
	}
	for _, s := range steps {
		title := s.Title
		if s.Bytes > 0 {
			title += " (" + ui.FormatBytes(s.Bytes) + ")"
		}
		fmt.Fprintf(w, "%-8s %-*s  %s\n", s.State, width, s.Step, title)
		if s.State == "done" {
			continue
		}
		if s.Reason != "" {
			why := "because "
			if s.State == "unknown" {
				why = "known after "
			}
			fmt.Fprintf(w, "%*s%s%s\n", width+11, "", why, strings.ReplaceAll(s.Reason, "\n", "; "))
		}
		if len(s.Affects) > 0 {
			fmt.Fprintf(w, "%*schanges %s\n", width+11, "", strings.Join(s.Affects, ", "))
		}
	}
	if todo == 0 {
		fmt.Fprintln(w, "\nNothing to do.")
		writeNextCommand(w, "plinth status")
		return
	}
	fmt.Fprintf(w, "\n%d of %s to do; nothing was changed.\n", todo, ui.FormatCount(len(steps), "step"))
	writeNextCommand(w, again)
}

// writeNextCommand ends an output with the next command to run.
func writeNextCommand(w io.Writer, command string) { fmt.Fprintf(w, "\nNext: %s\n", command) }

// QuoteShellWord returns word quoted for a POSIX shell, if it needs quotes.
func QuoteShellWord(word string) string { return problem.QuoteWord(word) }

// joinNonEmpty joins the strings that are not empty with two spaces.
func joinNonEmpty(all ...string) string {
	kept := all[:0]
	for _, s := range all {
		if s != "" {
			kept = append(kept, s)
		}
	}
	return strings.Join(kept, "  ")
}

// newTable returns a table with a header row; the caller flushes it.
func newTable(w io.Writer, head ...string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	writeRow(t, head...)
	return t
}

// writeRow writes a row of a table. A newline or a tab in a cell becomes visible.
func writeRow(t io.Writer, cells ...string) {
	clean := make([]string, len(cells))
	for i, c := range cells {
		clean[i] = ui.CleanLine(c)
	}
	fmt.Fprintln(t, strings.Join(clean, "\t"))
}

// WriteText writes the result of a command, which text writes, without characters that could control a
// terminal. It returns the error of writing to w.
func WriteText(w io.Writer, text func(io.Writer)) error {
	var all strings.Builder
	text(&all)
	_, err := io.WriteString(w, ui.CleanText(all.String()))
	return err
}
