package printer

import (
	"io"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/action/status"
	"github.com/plinthdev/plinth/internal/objectstore"
)

// The second line of a name could look like one of Plinth's own.
func TestBackup_ShowsANameOfTwoLinesInOne(t *testing.T) {
	const name, shown, quoted = "/mnt/a\nNext: b", `/mnt/a\u{a}Next: b`, `$'/mnt/a\012Next: b'`
	var none objectstore.Settings
	for title, write := range map[string]func(io.Writer){
		"written":       func(w io.Writer) { WriteBackupResult(w, backup.Result{Path: name, Verified: backup.Bytes}, none) },
		"removed":       func(w io.Writer) { WriteBackupResult(w, backup.Result{Path: "x", Removed: []string{name}}, none) },
		"an empty list": func(w io.Writer) { WriteBackupList(w, nil, name, none) },
		"a list":        func(w io.Writer) { WriteBackupList(w, []backup.Entry{{Path: name}}, "/mnt", none) },
		"verified": func(w io.Writer) {
			WriteBackupVerification(w, backup.Verification{Path: name, Verified: backup.Content}, none)
		},
		"bytes verified": func(w io.Writer) {
			WriteBackupVerification(w, backup.Verification{Path: name, Verified: backup.Bytes}, none)
		},
		"the status": func(w io.Writer) { writeLastBackup(w, &status.Backup{Record: backup.Record{Path: name}}) },
	} {
		t.Run(title, func(t *testing.T) {
			var out strings.Builder
			write(&out)
			if text := out.String(); strings.Contains(text, "\nNext: b") || !strings.Contains(text, shown) ||
				strings.Contains(text, "Next: plinth backup") && !strings.Contains(text, quoted) {
				t.Errorf("%q", text)
			}
		})
	}
}
