package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
)

func TestWritableByOthers_FollowsLinksAndChecksEveryFolder(t *testing.T) {
	root := t.TempDir()
	folder := func(name string, mode os.FileMode) {
		path := filepath.Join(root, name)
		testkit.Must(t, os.MkdirAll(path, 0o755), os.Chmod(path, mode))
	}
	link := func(name, target string) { testkit.Must(t, os.Symlink(target, filepath.Join(root, name))) }
	folder("safe/data", 0o711)
	folder("all", 0o777)
	folder("group", 0o775)
	folder("sticky", 0o777|os.ModeSticky)
	folder("sticky/data", 0o700)
	folder("all/inner", 0o755)
	link("to-all", "all/inner")
	link("to-safe", filepath.Join(root, "safe"))
	link("safe/up", "../all")
	link("all/escape", filepath.Join(root, "safe"))
	link("loop", "loop")
	for name, want := range map[string]string{
		"safe/data":         "",
		"safe/data/missing": "",
		"safe/missing/deep": "",
		"to-safe/data":      "",
		"sticky/data":       "",
		"sticky/missing":    "",
		"sticky":            "sticky is writable by other users",
		"all":               "all is writable by other users",
		"all/missing":       "all is writable by other users",
		"all/inner/missing": "all is writable by other users",
		"group/missing":     "group is writable by other users",
		"to-all/data":       "all is writable by other users",
		"safe/up/data":      "all is writable by other users",
		"all/escape/data":   "all is writable by other users",
		"loop/data":         "loop leads to too many symbolic links",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := WritableByOthers(filepath.Join(root, name))
			if err != nil || (got == "") != (want == "") || !strings.HasPrefix(strings.TrimPrefix(got, root+"/"), want) {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
		})
	}
}

func TestWritableByOthers_RefusesFoldersAndLinksOfOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	root := t.TempDir()
	theirs, safe, link := filepath.Join(root, "theirs"), filepath.Join(root, "safe"), filepath.Join(root, "link")
	testkit.Must(t, os.Mkdir(theirs, 0o755), os.Chown(theirs, 1000, 1000), os.Mkdir(safe, 0o755), os.Symlink(safe, link), os.Lchown(link, 1000, 1000))
	for path, want := range map[string]string{theirs: theirs, theirs + "/data": theirs, link + "/data": link} {
		if got, err := WritableByOthers(path); err != nil || got != want+" belongs to another user (uid 1000)" {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}
