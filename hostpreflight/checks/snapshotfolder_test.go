package checks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestCheckSnapshotFolder_ReadsThisHost(t *testing.T) {
	dir := t.TempDir()
	open, closed, link := filepath.Join(dir, "open"), filepath.Join(dir, "closed"), filepath.Join(dir, "link")
	testkit.Must(t, os.Mkdir(open, 0o700), os.Chmod(open, 0o757), os.Mkdir(closed, 0o700), os.Chmod(closed, 0o775), os.Symlink(closed, link))
	for folder, c := range map[string]struct {
		state hp.State
		found string // its end
	}{
		open:          {hp.Fail, " (mode 0757)"},
		closed:        {hp.Pass, ", mode 0775"},
		link:          {hp.Fail, " is not a folder"},
		dir + "/none": {hp.Pass, " does not exist yet"},
	} {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			req := hp.Requirements{SnapshotFolder: folder}
			f := probe.Gather(t.Context(), host.Local("/"), facts.Request{LocalOnly: true, Runs: snapshotFolderRuns(req)})
			if r := checkSnapshotFolder(f, req); r.State != c.state || !strings.HasSuffix(r.Found, c.found) {
				t.Errorf("%s: %s", r.State, r.Found)
			}
		})
	}
}
