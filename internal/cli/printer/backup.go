package printer

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/action/status"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/ui"
)

// WriteBackupResult writes where a backup is, and how far it is verified. store are the flags of its object store.
func WriteBackupResult(w io.Writer, r backup.Result, store objectstore.Settings) {
	fmt.Fprintf(w, "%s: %s, %s\n%s\n", ui.CleanLine(r.Path), ui.FormatBytes(r.Size), r.Digest, describeVerified(r.Verified))
	for _, p := range r.Removed {
		fmt.Fprintf(w, "removed %s\n", ui.CleanLine(p))
	}
	if r.Verified == backup.Bytes {
		fmt.Fprintln(w, "Test now and then, where the private key is, that it decrypts:")
		writeNextCommand(w, "plinth backup verify --identity-file KEY"+storeFlags(store)+" "+QuoteShellWord(r.Path))
		return
	}
	fmt.Fprintln(w, "Copy it to another place: this host may be what is lost.")
	writeNextCommand(w, "plinth status")
}

// describeVerified returns how far a backup is verified, as a sentence.
func describeVerified(v backup.Verified) string {
	if v == backup.Content {
		return "Read back: every file in it is as it was on this host."
	}
	return "Read back: the file is as it was written. Its content was not decrypted, because that needs the private key."
}

// storeFlags returns the flags by which an object store was named, with a space before each. What was in the environment
// still is, and a secret key is never an argument.
func storeFlags(s objectstore.Settings) (flags string) {
	for _, f := range []struct{ name, value string }{{"--s3-endpoint", s.Endpoint}, {"--s3-region", s.Region}, {"--s3-ca-file", s.CAFile},
		{"--s3-credentials-file", s.CredentialsFile}} {
		if f.value != "" {
			flags += " " + f.name + " " + QuoteShellWord(f.value)
		}
	}
	return flags
}

// WriteBackupList writes a table of the backups in a folder. store are the flags of its object store.
func WriteBackupList(w io.Writer, all []backup.Entry, folder string, store objectstore.Settings) {
	if len(all) == 0 {
		fmt.Fprintf(w, "There is no backup in %s.\n", ui.CleanLine(folder))
		writeNextCommand(w, "plinth backup --to "+QuoteShellWord(folder)+storeFlags(store))
		return
	}
	t := newTable(w, "TAKEN", "CLUSTER", "NODE", "K0S", "ENCRYPTED", "SIZE", "FILE")
	for _, e := range all {
		if e.Problem != "" {
			writeRow(t, "unknown", e.Problem, "", "", "", ui.FormatBytes(e.Size), e.Path)
			continue
		}
		writeRow(t, e.TakenAt.Format(time.RFC3339), e.Cluster, e.Node, e.K0s, string(e.Encryption), ui.FormatBytes(e.Size), e.Path)
	}
	_ = t.Flush()
	newest := max(0, slices.IndexFunc(all, func(e backup.Entry) bool { return e.Problem == "" }))
	writeNextCommand(w, "plinth backup verify"+storeFlags(store)+" "+QuoteShellWord(all[newest].Path))
}

// WriteBackupVerification writes what is known of a backup that was read completely. store are the flags of its object store.
func WriteBackupVerification(w io.Writer, v backup.Verification, store objectstore.Settings) {
	h := v.Backup
	fmt.Fprintf(w, "%s: cluster %s, by node %s at %s, k0s %s\n", ui.CleanLine(v.Path), ui.CleanLine(h.Cluster), ui.CleanLine(h.Node),
		h.TakenAt.Format(time.RFC3339), ui.CleanLine(h.K0s))
	if v.Verified == backup.Bytes {
		fmt.Fprintln(w, "The file is complete, and its digest matches. Its content was not decrypted.")
		key := "--identity-file KEY"
		if h.Encryption == "passphrase" {
			key = "--passphrase-file FILE"
		}
		writeNextCommand(w, "plinth backup verify "+key+storeFlags(store)+" "+QuoteShellWord(v.Path))
		return
	}
	how := "It was decrypted"
	if h.Encryption == "none" {
		how = "It is not encrypted"
	}
	fmt.Fprintf(w, "%s: each of its %s has its digest.\nNodes:", how, ui.FormatCount(v.Files, "file"))
	for _, n := range v.Nodes {
		fmt.Fprintf(w, " %s", ui.CleanLine(fmt.Sprintf("%s (%s, %s)", n.Name, n.Role, n.Address)))
	}
	fmt.Fprintln(w)
	writeNextCommand(w, "plinth status")
}

// writeLastBackup writes when this host wrote its last good backup.
func writeLastBackup(w io.Writer, b *status.Backup) {
	if b == nil || b.Path == "" && b.Schedule == "" {
		return
	}
	if b.Path == "" {
		fmt.Fprintf(w, "\nLast backup: none; scheduled: %s, to %s\n", b.Schedule, b.To)
		return
	}
	fmt.Fprintf(w, "\nLast backup: %s (%s ago), %s, %s\n", b.TakenAt.Format(time.RFC3339), describeAge(time.Duration(b.AgeSeconds)*time.Second),
		ui.FormatBytes(b.Size), ui.CleanLine(b.Path))
	if b.Schedule != "" {
		fmt.Fprintf(w, "Scheduled: %s, to %s\n", b.Schedule, b.To)
	}
}

// writeLastSnapshot writes when the last complete snapshot was taken.
func writeLastSnapshot(w io.Writer, s *status.Snapshot) {
	if s != nil {
		fmt.Fprintf(w, "\nLast snapshot: %s (%s ago), %s\n", s.TakenAt.Format(time.RFC3339), describeAge(time.Duration(s.AgeSeconds)*time.Second), s.Name)
	}
}

// describeAge returns a duration in its largest unit.
func describeAge(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return ui.FormatCount(max(0, int(d.Seconds())), "second")
	case d < 2*time.Hour:
		return ui.FormatCount(int(d.Minutes()), "minute")
	case d < 48*time.Hour:
		return ui.FormatCount(int(d.Hours()), "hour")
	}
	return ui.FormatCount(int(d.Hours()/24), "day")
}
