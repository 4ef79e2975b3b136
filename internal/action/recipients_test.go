package action

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestReadRecipients_TakesKeysAndFiles(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	testkit.Must(t, err)
	public := identity.Recipient().String()
	file := filepath.Join(t.TempDir(), "keys.txt")
	testkit.Must(t, os.WriteFile(file, []byte("# ours\n"+public+"\n"+public+"\n"), 0o600))
	for name, c := range map[string]struct {
		values []string
		keys   int
		text   string // of the error
	}{
		"none":        {},
		"key":         {[]string{public}, 1, ""},
		"key, file":   {[]string{public, file}, 3, ""},
		"no file":     {[]string{file + "x"}, 0, "cannot read the public keys in "},
		"private key": {[]string{identity.String()}, 0, "it is a private key"},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := ReadRecipients(c.values)
			if len(all) != c.keys || (err == nil) != (c.text == "") {
				t.Fatalf("%d keys, %v", len(all), err)
			}
			if err != nil && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), identity.String())) {
				t.Error(err)
			}
		})
	}
}
