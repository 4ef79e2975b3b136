package layout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"github.com/plinthdev/plinth/internal/testkit"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/distro/cache"
	"github.com/plinthdev/plinth/distro/debian"
	"github.com/plinthdev/plinth/distro/oci"
	"github.com/plinthdev/plinth/distro/recipe"
)

func TestMatchesPath_MatchesFilesPatternsAndFolders(t *testing.T) {
	for _, c := range []struct {
		want, name string
		ok         bool
	}{
		{"/bin/busybox", "/bin/busybox", true},
		{"/bin/busybox", "/bin/busybox2", false},
		{"/lib/*.so*", "/lib/x.so.1", true},
		{"/lib/*.so*", "/lib/gconv/x.so", false},
		{"/etc/a/", "/etc/a/b/c", true},
		{"/etc/a/", "/etc/ab", false},
	} {
		t.Run(c.want+" matches "+c.name, func(t *testing.T) {
			if got := matchesPath(c.want, c.name); got != c.ok {
				t.Errorf("got %v, want %v", got, c.ok)
			}
		})
	}
}

// newTestWriter returns a writer whose cache holds one pinned Debian package, built
// here.
func newTestWriter(t *testing.T) *Writer {
	t.Helper()
	for _, tool := range []string{"dpkg-deb", "apt-get"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs a tool that the payload needs: %v", err)
		}
	}
	root, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"DEBIAN/control": "Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n",
		"usr/bin/tool":   "#!", "usr/share/man/man1/tool.1": "man", "usr/share/doc/tool/copyright": "free", "usr/share/doc/tool/NEWS": "none",
		"etc/tool/b": "second ", "etc/tool/a": "first ", "etc/tool/sub/c": "third",
	} {
		testkit.WriteFile(t, root, name, text)
	}
	if err := os.Chmod(filepath.Join(root, "usr/bin/tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("tool", filepath.Join(root, "usr/bin/t")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tool_1_all.deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-b", root, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	digest := hex.EncodeToString(sum[:])
	testkit.WriteFile(t, dir, "downloads/"+digest+"-tool_1_all.deb", string(b))
	lock, err := debian.Parse(fmt.Appendf(nil, "tool stable 1 %s %d pool/tool_1_all.deb MIT\n", digest, len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return &Writer{Cache: &cache.Cache{Dir: dir, Lock: lock, Set: &recipe.Set{}}}
}

func TestBuildTree_KeepsRequestedPathsAndCopyright(t *testing.T) {
	tree, err := newTestWriter(t).buildTree(context.Background(), recipe.Tree{
		Debs:    map[string][]string{"tool": {"/usr/bin/*", "/etc/tool/sub/"}},
		Files:   map[string]recipe.File{"/etc/all": {Concat: &recipe.Concat{Deb: "tool", Prefix: "/etc/tool/"}}, "/x.sh": {Text: "x", Mode: 0o755}},
		Dirs:    map[string]recipe.Dir{"/tmp": {Mode: 0o1777}},
		Links:   map[string]string{"/l": "/x.sh"},
		Applets: recipe.Applets{Target: "/usr/bin/tool", Dir: "/bin", Names: []string{"one", "two"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "/bin/one /bin/two /etc/all /etc/tool/sub/c /l /tmp /usr/bin/t /usr/bin/tool /usr/share/doc/tool/copyright /x.sh"
	if got := strings.Join(slices.Sorted(maps.Keys(tree)), " "); got != want {
		t.Errorf("the layer has %s, want %s", got, want)
	}
	for name, want := range map[string]oci.Entry{
		"/etc/all":      {Data: []byte("first second third"), Mode: 0o644},
		"/usr/bin/t":    {Link: "tool"},
		"/bin/two":      {Link: "/usr/bin/tool"},
		"/usr/bin/tool": {Data: []byte("#!"), Mode: 0o755},
		"/x.sh":         {Data: []byte("x"), Mode: 0o755},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tree[name]; string(got.Data) != string(want.Data) || got.Link != want.Link || got.Mode != want.Mode {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestBuildTree_RefusesMissingFilesAndBadPaths(t *testing.T) {
	a := newTestWriter(t)
	for want, tree := range map[string]recipe.Tree{
		"has no file that matches /sbin/tool": {Debs: map[string][]string{"tool": {"/usr/bin/tool", "/sbin/tool"}}},
		"has no files below /var/":            {Files: map[string]recipe.File{"/a": {Concat: &recipe.Concat{Deb: "tool", Prefix: "/var/"}}}},
		"no entry other":                      {Debs: map[string][]string{"other": {"/"}}},
		"is not a path for a layer":           {Links: map[string]string{"/a/../../b": "x"}},
	} {
		t.Run(want, func(t *testing.T) {
			if _, err := a.buildTree(context.Background(), tree); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}
