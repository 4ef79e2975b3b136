package pull_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/pull"
	. "github.com/plinthdev/plinth/airgap/pull/pulltest"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestCopyReleases(t *testing.T) {
	const file, list = "/k0sproject/k0s/releases/download/v1.33.8+k0s.1/k0s-v1.33.8+k0s.1-amd64", "/k0sproject/k0s/releases/download/v1.33.8+k0s.1/sha256sums.txt"
	s := newSetup(t)
	release := randomBytes(7)
	s.ReplaceFile(file, release)
	sums := fmt.Appendf(nil, "%x *k0s-v1.33.8+k0s.1-amd64\n", sha256.Sum256(release))
	s.ReplaceFile(list, sums)
	s.req.Releases, s.req.HostFiles = pull.ReleasesAt(s.URL(Releases)), []build.HostFile{{Name: "k0s", Version: "v1.33.8+k0s.1"}}
	dir := t.TempDir()
	path := filepath.Join(dir, filepath.FromSlash(file))
	for name, c := range map[string]struct {
		before func(t *testing.T)
		fault  Fault
		loads  int // requests for the file
	}{
		"nothing there":    {func(*testing.T) { _ = os.RemoveAll(dir) }, nil, 1},
		"there":            {func(*testing.T) {}, nil, 0},
		"damaged":          {func(t *testing.T) { writeText(t, path, "damaged") }, nil, 1},
		"connection broke": {func(*testing.T) { _ = os.Remove(path) }, On(Releases, 1, Cut(40_000)), 2},
	} {
		t.Run(name, func(t *testing.T) {
			if err := pull.CopyReleases(t.Context(), s.req, dir); err != nil {
				t.Fatal(err)
			}
			c.before(t)
			s.Break(c.fault)
			if err := pull.CopyReleases(t.Context(), s.req, dir); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || string(got) != string(release) {
				t.Errorf("the release has %d bytes, want %d, %v", len(got), len(release), err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(list))); err != nil || string(got) != string(sums) {
				t.Errorf("the list is %q, %v", got, err)
			}
			if n := s.Count(" GET " + file); n != c.loads {
				t.Errorf("%d requests for the release, want %d: %q", n, c.loads, s.Requests())
			}
		})
	}
	for name, c := range map[string]struct{ file, version, want string }{
		"not published":     {"k0s", "v1.99.0+k0s.0", "answers 404"},
		"not a host file":   {"other", "v1", "no release has the name other"},
		"path in a version": {"k0s", "../v1", "the version"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Break(nil)
			s.ReplaceFile("/k0sproject/k0s/releases/v1/sha256sums.txt", []byte(strings.Repeat("0", 64)+"  v1-amd64\n"))
			s.req.HostFiles = []build.HostFile{{Name: c.file, Version: c.version}}
			err := pull.CopyReleases(t.Context(), s.req, dir)
			if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
