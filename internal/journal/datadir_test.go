package journal

import (
	"github.com/plinthdev/plinth/internal/testkit"
	"os"
	"path/filepath"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
)

func TestUnusableReason_RejectsFoldersWithOtherFiles(t *testing.T) {
	for name, c := range map[string]struct {
		dir   string
		files []string // below the root
		want  string
	}{
		"missing":                         {"/data", nil, ""},
		"empty":                           {"/data", []string{"data/"}, ""},
		"mount point of a disk":           {"/data", []string{"data/lost+found/"}, ""},
		"data folder":                     {"/data", []string{"data/journal.json", "data/volumes/x"}, ""},
		"killed before the first journal": {"/data", []string{"data/.journal.json.plinth-tmp"}, ""},
		"other files":                     {"/data", []string{"data/precious"}, "contains other files, such as precious"},
		"relative path":                   {"data", nil, "is not an absolute path"},
		"regular file":                    {"/data", []string{"data"}, "is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, f := range c.files {
				p := filepath.Join(root, f)
				if f[len(f)-1] == '/' {
					testkit.Must(t, os.MkdirAll(p, 0o755))
				} else {
					testkit.Must(t, os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, nil, 0o600))
				}
			}
			if got := UnusableReason(host.Local(root), c.dir); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
