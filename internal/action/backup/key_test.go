package backup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/ui"
)

const ageKey = "# created: 2026-11-30T12:00:00Z\n# public key: age1x\nAGE-SECRET-KEY-184JMZMVQH3E6U0PSL869004Y3U2NYV7R30EU99CSEDNPH02YUVFSZW44VU\n"

func TestKeyFlags_RefuseFilesThatAreNoSecret(t *testing.T) {
	for name, c := range map[string]struct {
		content  string
		mode     os.FileMode
		identity bool
		cause    string // "" if it is accepted
		hint     string
	}{
		"a passphrase":                    {"five random words here\n", 0o600, false, "", ""},
		"a passphrase of Windows":         {"five random words here\r\n\r\n", 0o400, false, "", ""},
		"a passphrase of all users":       {"five random words here\n", 0o644, false, "other users can read it", "chmod 600 "},
		"a passphrase of a group":         {"five random words here\n", 0o640, false, "other users can read it", "chmod 600 "},
		"several lines":                   {"five random words here\nand more\n", 0o600, false, "it has several lines", "only line"},
		"an empty line":                   {"\nfive random words here\n", 0o600, false, "its first line is empty", "only line"},
		"a private key as the passphrase": {ageKey, 0o600, false, "it contains a private key of age", "--identity-file"},
		"only the private key":            {strings.ToLower(strings.Split(ageKey, "\n")[2]), 0o600, false, "it contains a private key of age", "--recipient"},
		"a private key of all users":      {ageKey, 0o666, true, "other users can read it", "chmod 600 "},
		"a passphrase as the private key": {"five random words here\n", 0o600, true, "contains no private key", "age-keygen"},
	} {
		t.Run(name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "secret")
			testkit.Must(t, os.WriteFile(p, []byte(c.content), 0o600), os.Chmod(p, c.mode))
			flags := KeyFlags{PassphraseFile: p, Secrets: &ui.Secrets{}}
			if c.identity {
				flags = KeyFlags{IdentityFile: p, Secrets: &ui.Secrets{}}
			}
			key, _, err := flags.key()
			if c.cause == "" {
				if err != nil || key.Passphrase != "five random words here" {
					t.Errorf("%q %v", key.Passphrase, err)
				}
				return
			}
			if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.cause) || !strings.Contains(problem.Hint(err), c.hint) {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
		})
	}
}
