package node

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestProgram_LeavesFilesOfOthers(t *testing.T) {
	const own, earlier = "this plinth", "an earlier plinth"
	p := Program{Installed: []digest.Digest{digest.FromString(earlier)},
		File: Artifact{Path: ProgramPath, Mode: 0o755, Size: int64(len(own)), Digest: digest.FromString(own),
			Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(own)), nil }}}
	file := func(content string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(content), 0o755) }
	}
	for name, c := range map[string]struct {
		prepare   func(path string) error
		needed    string
		foreign   bool
		installed bool
	}{
		"nothing":                  {func(string) error { return nil }, ProgramPath + " does not exist", false, false},
		"this program, by a user":  {file(own), "", false, false},
		"this program, other mode": {func(path string) error { return os.WriteFile(path, []byte(own), 0o750) }, "", false, false},
		"an earlier run's":         {file(earlier), ProgramPath + " has 17 bytes, needs 11", false, true},
		"another program":          {file("not plinth"), "", true, false},
		"a link":                   {func(path string) error { return os.Symlink("/opt/plinth", path) }, "", true, false},
		"a folder":                 {func(path string) error { return os.Mkdir(path, 0o755) }, "", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			path := filepath.Join(f.Root, ProgramPath)
			testkit.Must(t, os.MkdirAll(filepath.Dir(path), 0o755), c.prepare(path))
			h := host.ReadOnly(f.Host())
			needed, err := p.Check(t.Context(), h)
			foreign, err2 := p.IsForeign(h)
			installed, err3 := p.IsInstalled(h)
			testkit.Must(t, err, err2, err3)
			if needed != c.needed || foreign != c.foreign || installed != c.installed {
				t.Errorf("needed %q, foreign %v, installed %v", needed, foreign, installed)
			}
		})
	}
}
