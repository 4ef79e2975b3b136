package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/install"
	"github.com/plinthdev/plinth/internal/action/restore"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestCheckRestoreFlags_RefusesWhatDoesNotFit(t *testing.T) {
	fromInput := install.Options{LoadOptions: config.LoadOptions{Bundle: "-"}}
	for name, c := range map[string]struct {
		opts     restore.Options
		answered bool
		want     string // in the cause; "" if it is not refused
	}{
		"a snapshot":                 {restore.Options{From: "/s", Snapshot: "a", AppBundle: "a.airgap"}, true, ""},
		"a backup with its key":      {restore.Options{ControlPlane: "f", Key: backup.KeyFlags{IdentityFile: "-"}}, true, ""},
		"a survivor":                 {restore.Options{FromThisNode: true, RemoveLost: true}, false, ""},
		"a bundle from input":        {restore.Options{From: "/s", Install: fromInput}, true, ""},
		"nothing":                    {restore.Options{}, true, "nothing to restore from is given"},
		"a snapshot of no store":     {restore.Options{ControlPlane: "f", Snapshot: "a"}, true, "--snapshot needs --from"},
		"images for a backup":        {restore.Options{ControlPlane: "f", AppBundle: "a.airgap"}, true, "--app-bundle needs --from"},
		"controllers of a snapshot":  {restore.Options{From: "/s", RemoveLost: true}, true, "a snapshot has no controllers"},
		"a key for a snapshot":       {restore.Options{From: "/s", Key: backup.KeyFlags{IdentityFile: "k"}}, true, "only a backup of the control plane is encrypted"},
		"a passphrase of a survivor": {restore.Options{FromThisNode: true, Key: backup.KeyFlags{PassphraseFile: "p"}}, true, "only a backup of the control plane is encrypted"},
		"a store of a survivor":      {restore.Options{FromThisNode: true, Store: objectstore.Settings{Region: "r"}}, true, "in no object store"},
		"two inputs":                 {restore.Options{ControlPlane: "f", Key: backup.KeyFlags{PassphraseFile: "-"}, Install: fromInput}, true, "both the bundle and the key"},
		"a question beside the key":  {restore.Options{ControlPlane: "f", Key: backup.KeyFlags{PassphraseFile: "-"}}, false, "standard input is the key"},
		"a question and a bundle":    {restore.Options{From: "/s", Install: fromInput}, false, "standard input is the bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkRestoreFlags(c.opts, c.answered)
			if (err == nil) != (c.want == "") || err != nil && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.want) || problem.Hint(err) == "") {
				t.Errorf("%v → %s", err, problem.Hint(err))
			}
		})
	}
}

func TestRestore_NamesTheProgramInItsHints(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a restore needs root")
	}
	file := filepath.Join(t.TempDir(), "no.plinth-backup")
	testkit.Must(t, os.WriteFile(file, []byte("not a backup"), 0o600))
	var stdout, stderr bytes.Buffer
	code := Run(t.Context(), Process{Out: &stdout, Err: &stderr, CommandName: func() string { return "./my-plinth" }},
		[]string{"restore", "--control-plane", file, "--bundle", "b", "--plan"})
	if want := "name a file that `./my-plinth backup` has written"; code != problem.ExitBundle || !strings.Contains(stderr.String(), want) {
		t.Errorf("exit %d, %q is missing in %s", code, want, stderr.String())
	}
}
