// Package answer owns how a run's outcome is written: each verb's result for a
// person, ending with the next command to type, the error, and the JSON form
// of both. It refuses to decide anything and to know flags.
package answer

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/plinthdev/plinth/internal/app/vendor"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/format"
)

// Lint lists what was found in files, or says that they are good.
func Lint(w io.Writer, r spec.Report, files []string) {
	for _, f := range r.Findings {
		fmt.Fprintln(w, f)
	}
	if spec.HasErrors(r.Findings) || r.Gate != nil && !r.Gate.Allowed() {
		return
	}
	if r.Gate != nil {
		fmt.Fprintln(w, r.Gate.Explain(r.Title).Cause)
	}
	warnings := "no warnings"
	if n := len(r.Findings); n > 0 {
		warnings = Count(n, "warning")
	}
	fmt.Fprintf(w, "%s: good, %s\n", strings.Join(files, ", "), warnings)
	if r.Installer != nil {
		next(w, buildCommand(r, files))
	}
}

// buildCommand makes a bundle of what was checked.
func buildCommand(r spec.Report, files []string) string {
	command := "plinth bundle build"
	for _, f := range files {
		flag := " --installer "
		if r.Application != nil && f == r.Application.File {
			flag = " --application "
		}
		command += flag + Quote(f)
	}
	return command + " -o " + r.Installer.Metadata.Name + ".bundle"
}

// Built says which bundle was made.
func Built(w io.Writer, r vendor.Result) {
	fmt.Fprintf(w, "%s: %s\n%s\n", r.Path, ui.Bytes(r.Size), digestOf(r.Digest.String()))
	if r.Signer == "" {
		fmt.Fprintln(w, "It is not signed: hosts take it only with --allow-unsigned. Sign it with --sign-key.")
	} else {
		fmt.Fprintf(w, "Signed with the key %s\n", r.Signer)
	}
	next(w, "plinth bundle inspect "+Quote(r.Path))
}

// Inspected lists a bundle's parts: what they are and how big.
func Inspected(w io.Writer, b airgap.Summary, path string) {
	fmt.Fprintf(w, "%s\n%s\n%s\n\n", words(b.Name, b.Platform), digestOf(b.Digest.String()), upper(label(b)))
	t := table(w, "KIND", "NAME", "VERSION", "SIZE", "ON THE HOST", "LICENCE")
	images := false
	for _, it := range b.Items {
		images = images || it.Kind == format.KindImage
		unpacked := ""
		if it.Unpacked > 0 {
			unpacked = ui.Bytes(it.Unpacked)
		}
		row(t, string(it.Kind), it.Name, it.Version, ui.Bytes(it.Size), unpacked, it.Licenses)
	}
	_ = t.Flush()
	if images {
		fmt.Fprintln(w, "\nAn image's tag is the name that the cluster asks for. VERSION is what was built and stands under that name; the index binds it by digest.")
	}
	fmt.Fprintf(w, "\n%s in the file, in %s; %s on a host\n", ui.Bytes(b.Totals.File), Count(b.Totals.Blobs, "part"), ui.Bytes(b.Totals.OnHost.Total()))
	if b.Base != "" {
		fmt.Fprintf(w, "It is a delta to %s, which has %s of it\n", b.Base, Count(b.Absent, "more part"))
	}
	next(w, "plinth bundle verify "+Quote(path))
}

// digestOf says what the digest of a bundle is, for people who hold the output
// of sha256sum beside it.
func digestOf(digest string) string {
	return digest + " (of the bundle's index, which names all parts by digest; the file's own sha256sum is another)"
}

// upper is a sentence with its first letter in upper case.
func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// label is what the vendor wrote on a bundle.
func label(b airgap.Summary) string {
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

// Released says what was published and how a customer starts.
func Released(w io.Writer, r vendor.ReleaseResult) {
	fmt.Fprintf(w, "%s: %s for %s, to be served at %s\n", r.Path, ui.Bytes(r.Size), strings.Join(r.Platforms, ", "), r.URL)
	if r.Fingerprint != "" {
		fmt.Fprintf(w, "Its executables take bundles signed with the key %s\n", r.Fingerprint)
	}
	if !r.Signed {
		fmt.Fprintln(w, "SHA256SUMS is not signed: the web server alone vouches for install.sh and the executables")
	}
	next(w, "curl -fsSL "+r.URL+"/install.sh | sudo bash -s --")
}

// Sealed says which executable was made.
func Sealed(w io.Writer, r vendor.SealResult) {
	fmt.Fprintf(w, "%s: %s\n", r.Path, ui.Bytes(r.Size))
	if r.Fingerprint != "" {
		fmt.Fprintf(w, "It takes bundles signed with the key %s\n", r.Fingerprint)
	}
	if r.Bundle == "" {
		next(w, "sudo "+program(r.Path)+" install --bundle FILE")
		return
	}
	fmt.Fprintf(w, "It carries the bundle %s\n", r.Bundle)
	next(w, "sudo "+program(r.Path)+" install")
}

// Diffed says which delta was made.
func Diffed(w io.Writer, r vendor.DiffResult, old string) {
	fmt.Fprintf(w, "%s: %s, %.1f %% of the full bundle (%s); %s as they are, %d made from older ones\n",
		r.Path, ui.Bytes(r.Size), 100*float64(r.Size)/float64(r.Full), ui.Bytes(r.Full), Count(r.Parts, "part"), r.Patches)
	fmt.Fprintf(w, "With %s it makes %s\n", r.Base, r.Digest)
	next(w, "plinth bundle merge "+Quote(old)+" "+Quote(r.Path)+" -o FILE")
}

// Merged says which bundle a delta made.
func Merged(w io.Writer, r vendor.Result) {
	fmt.Fprintf(w, "%s: %s, %s, every byte proved\n", r.Path, ui.Bytes(r.Size), r.Digest)
	next(w, "plinth install --bundle "+Quote(r.Path))
}

// program is a path as a shell runs it.
func program(path string) string {
	if !strings.Contains(path, "/") {
		path = "./" + path
	}
	return Quote(path)
}

// Verified says that a bundle is whole.
func Verified(w io.Writer, b airgap.Summary, path string) {
	fmt.Fprintf(w, "%s is whole: %s in %s are as they were built\n%s\n%s\n", path, ui.Bytes(b.Totals.Content), Count(b.Totals.Blobs, "part"), digestOf(b.Digest.String()), upper(label(b)))
	if b.Verified != "" {
		fmt.Fprintf(w, "It is signed with the key %s\n", b.Verified)
	} else {
		fmt.Fprintln(w, "Whose it is was not checked: name the vendor's public key with --verify-key.")
	}
	next(w, "plinth install --bundle "+Quote(path))
}

// plan lists steps, and below each that is not done why and what it changes;
// again is the command that does it.
func plan(w io.Writer, steps []step.Planned, again string) {
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
			title += " (" + ui.Bytes(s.Bytes) + ")"
		}
		fmt.Fprintf(w, "%-8s %-*s  %s\n", s.State, width, s.Step, title)
		if s.State == "done" {
			continue
		}
		if s.Why != "" {
			why := "because "
			if s.State == "unknown" {
				why = "can be told after "
			}
			fmt.Fprintf(w, "%*s%s%s\n", width+11, "", why, strings.ReplaceAll(s.Why, "\n", "; "))
		}
		if len(s.Touches) > 0 {
			fmt.Fprintf(w, "%*schanges %s\n", width+11, "", strings.Join(s.Touches, ", "))
		}
	}
	if todo == 0 {
		fmt.Fprintln(w, "\nNothing to do.")
		next(w, "plinth status")
		return
	}
	fmt.Fprintf(w, "\n%d of %s to do; nothing was changed.\n", todo, Count(len(steps), "step"))
	next(w, again)
}

// next ends an answer with what to type now.
func next(w io.Writer, command string) { fmt.Fprintf(w, "\nNext: %s\n", command) }

// Count is n of what: "1 error", "3 errors".
func Count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// Quote is a word as a shell reads it.
func Quote(word string) string {
	plain := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,"
	if word != "" && strings.Trim(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// words puts two spaces between those that are not empty.
func words(all ...string) string {
	kept := all[:0]
	for _, s := range all {
		if s != "" {
			kept = append(kept, s)
		}
	}
	return strings.Join(kept, "  ")
}

func table(w io.Writer, head ...string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, head...)
	return t
}

func row(t io.Writer, cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }
