package journal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
)

func TestOnlyAFolderOfItsOwnIsUsable(t *testing.T) {
	for name, c := range map[string]struct {
		dir   string
		files []string // below the root
		want  string
	}{
		"not there yet":         {"/data", nil, ""},
		"empty":                 {"/data", []string{"data/"}, ""},
		"a disk of its own":     {"/data", []string{"data/lost+found/"}, ""},
		"ours":                  {"/data", []string{"data/journal.json", "data/volumes/x"}, ""},
		"ours, killed at birth": {"/data", []string{"data/.journal.json.plinth-tmp"}, ""},
		"somebody's":            {"/data", []string{"data/precious"}, "has other things in it, such as precious"},
		"relative":              {"data", nil, "is not an absolute path"},
		"a file":                {"/data", []string{"data"}, "is not a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, f := range c.files {
				p := filepath.Join(root, f)
				if f[len(f)-1] == '/' {
					must(t, os.MkdirAll(p, 0o755))
				} else {
					must(t, os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, nil, 0o600))
				}
			}
			if got := Unusable(host.Local(root), c.dir); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
