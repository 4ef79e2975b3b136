package host_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
)

// onBoth runs a test on the real files and on those of the fake: what a test
// of a consumer proves on the fake must hold on a host.
func onBoth(t *testing.T, test func(t *testing.T, h host.Host, root string)) {
	t.Run("local", func(t *testing.T) {
		root := t.TempDir()
		test(t, host.Local(root), root)
	})
	t.Run("fake", func(t *testing.T) {
		f := hosttest.New(t)
		test(t, f.Host(), f.Root)
	})
}

func put(t *testing.T, f host.Files, path, content string) {
	t.Helper()
	if err := f.Write(path, strings.NewReader(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, f host.Files, path string) string {
	t.Helper()
	b, err := f.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func perm(t *testing.T, f host.Files, path string) fs.FileMode {
	t.Helper()
	info, err := f.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func names(t *testing.T, f host.Files, path string) string {
	t.Helper()
	entries, err := f.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestModesAreExactWhateverTheUmask(t *testing.T) {
	old := unix.Umask(0o077)
	t.Cleanup(func() { unix.Umask(old) })
	onBoth(t, func(t *testing.T, h host.Host, _ string) {
		for _, want := range []fs.FileMode{0o600, 0o644, 0o755, 0o666} {
			if err := h.Write("/etc/app/file", strings.NewReader("x"), want); err != nil {
				t.Fatal(err)
			}
			if got := perm(t, h, "/etc/app/file"); got != want {
				t.Errorf("file has mode %o, want %o", got, want)
			}
			// The second time it exists already.
			for range 2 {
				if err := h.MkdirAll("/var/app/dir", want|0o100); err != nil {
					t.Fatal(err)
				}
			}
			if got := perm(t, h, "/var/app/dir"); got != want|0o100 {
				t.Errorf("folder has mode %o, want %o", got, want|0o100)
			}
		}
	})
}

// cutOff is a reader that fails after its content.
func cutOff(content string, err error) io.Reader {
	return io.MultiReader(strings.NewReader(content), failing{err})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestAWriteThatFailsLeavesTheOldFileAndNothingElse(t *testing.T) {
	onBoth(t, func(t *testing.T, h host.Host, _ string) {
		put(t, h, "/etc/app/conf", "old")
		damaged := errors.New("wrong digest")
		if err := h.Write("/etc/app/conf", cutOff("new but not all", damaged), 0o600); !errors.Is(err, damaged) {
			t.Fatalf("error is %v, want the reader's", err)
		}
		if got := content(t, h, "/etc/app/conf"); got != "old" {
			t.Errorf("file holds %q", got)
		}
		if got := perm(t, h, "/etc/app/conf"); got != 0o644 {
			t.Errorf("file has mode %o", got)
		}
		if got := names(t, h, "/etc/app"); got != "conf" {
			t.Errorf("the folder holds %q", got)
		}
	})
}

func TestWhatIsPlacedIsThereWholeOrNotAtAll(t *testing.T) {
	onBoth(t, func(t *testing.T, h host.Host, _ string) {
		damaged := errors.New("wrong digest")
		if err := h.Place("/store/blobs/one", cutOff("some of it", damaged), 0o444); !errors.Is(err, damaged) {
			t.Fatalf("error is %v, want the reader's", err)
		}
		if got := names(t, h, "/store/blobs"); got != "" {
			t.Errorf("the folder holds %q", got)
		}
		if err := h.Place("/store/blobs/one", strings.NewReader("all of it"), 0o444); err != nil {
			t.Fatal(err)
		}
		if got := content(t, h, "/store/blobs/one"); got != "all of it" || perm(t, h, "/store/blobs/one") != 0o444 || names(t, h, "/store/blobs") != "one" {
			t.Errorf("the file holds %q with mode %o, the folder %q", got, perm(t, h, "/store/blobs/one"), names(t, h, "/store/blobs"))
		}
		if err := h.Place("/store/blobs/one", failing{damaged}, 0o444); !errors.Is(err, fs.ErrExist) {
			t.Errorf("what is there: %v", err)
		}
		if err := host.ReadOnly(h).Place("/store/blobs/two", strings.NewReader(""), 0o444); err == nil || names(t, h, "/store/blobs") != "one" {
			t.Errorf("a run that only looks placed a file: %v", err)
		}
	})
}

func TestAWriteReplacesALinkNotWhatItPointsTo(t *testing.T) {
	onBoth(t, func(t *testing.T, h host.Host, root string) {
		put(t, h, "/etc/other", "theirs")
		link(t, root, "/etc/other", "/etc/conf")
		put(t, h, "/etc/conf", "ours")
		if content(t, h, "/etc/other") != "theirs" || content(t, h, "/etc/conf") != "ours" {
			t.Errorf("the write went through the link")
		}
	})
}

func link(t *testing.T, root, to, at string) {
	t.Helper()
	if err := os.Symlink(filepath.Join(root, to), filepath.Join(root, at)); err != nil {
		t.Fatal(err)
	}
}

func TestRemoveAllTakesATreeAndFollowsNoLink(t *testing.T) {
	onBoth(t, func(t *testing.T, h host.Host, root string) {
		put(t, h, "/var/lib/app/a/b/file", "x")
		put(t, h, "/home/me/precious", "mine")
		link(t, root, "/home/me", "/var/lib/app/a/home")
		link(t, root, "/home/me/precious", "/var/lib/app/link")
		link(t, root, "/nowhere", "/var/lib/app/dangling")
		for range 2 { // missing is no error
			if err := h.RemoveAll("/var/lib/app"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Lstat("/var/lib/app"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
		if got := content(t, h, "/home/me/precious"); got != "mine" {
			t.Errorf("behind the link is now %q", got)
		}
	})
}

func TestRemoveAllTakesALinkItselfNotItsTarget(t *testing.T) {
	onBoth(t, func(t *testing.T, h host.Host, root string) {
		put(t, h, "/home/me/precious", "mine")
		link(t, root, "/home/me", "/opt-link")
		if err := h.RemoveAll("/opt-link"); err != nil {
			t.Fatal(err)
		}
		if got := names(t, h, "/"); got != "home" {
			t.Errorf("root holds %q", got)
		}
		if got := content(t, h, "/home/me/precious"); got != "mine" {
			t.Errorf("behind the link is now %q", got)
		}
	})
}

func TestRemoveAllRefusesWhatEveryHostNeeds(t *testing.T) {
	paths := []string{"/", "//", "/.", "/..", "/usr/..", "/etc", "/etc/", "/etc/.", "/var/lib/..", "/usr/../etc", "/home", "/usr", "/mnt", "relative", "../etc", ""}
	onBoth(t, func(t *testing.T, h host.Host, _ string) {
		for _, dir := range []string{"etc", "var", "home", "usr", "mnt"} {
			put(t, h, "/"+dir+"/file", "x")
		}
		for _, p := range paths {
			if err := h.RemoveAll(p); err == nil {
				t.Errorf("RemoveAll(%q) was obeyed", p)
			}
		}
		if got := names(t, h, "/"); got != "etc home mnt usr var" {
			t.Errorf("root now holds %q", got)
		}
	})
}

func TestPathsStayBelowTheRoot(t *testing.T) {
	onBoth(t, func(t *testing.T, h host.Host, root string) {
		put(t, h, "/../../etc/./x/../conf", "inside")
		if b, err := os.ReadFile(filepath.Join(root, "etc/conf")); err != nil || string(b) != "inside" {
			t.Errorf("root/etc/conf: %q, %v", b, err)
		}
		for what, err := range map[string]error{
			"Write":    h.Write("conf", strings.NewReader(""), 0o600),
			"MkdirAll": h.MkdirAll("conf", 0o700),
			"ReadFile": second(h.ReadFile("etc/conf")),
			"ReadDir":  second(h.ReadDir("etc")),
			"Lstat":    second(h.Lstat("etc")),
			"OpenFile": second(h.OpenFile("etc/conf")),
			"Place":    h.Place("conf", strings.NewReader(""), 0o600),
		} {
			if err == nil || !strings.Contains(err.Error(), "not absolute") {
				t.Errorf("%s took a relative path: %v", what, err)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestReadersSayWhatIsMissing(t *testing.T) {
	onBoth(t, func(t *testing.T, h host.Host, root string) {
		for what, err := range map[string]error{
			"ReadFile": second(h.ReadFile("/none")),
			"ReadDir":  second(h.ReadDir("/none")),
			"Lstat":    second(h.Lstat("/none")),
			"OpenFile": second(h.OpenFile("/none")),
		} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", what, err)
			}
		}
		link(t, root, "/none", "/dangling")
		if info, err := h.Lstat("/dangling"); err != nil || info.Mode().Type() != fs.ModeSymlink {
			t.Errorf("Lstat follows links: %v, %v", info, err)
		}
	})
}

func TestRemoveAllStopsAtAMountAndNamesIt(t *testing.T) {
	root := t.TempDir()
	h := host.Local(root)
	put(t, h, "/var/lib/app/file", "x")
	mounted := filepath.Join(root, "var/lib/app/pods")
	if err := os.Mkdir(mounted, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", mounted, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("this needs a mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) })
	put(t, h, "/var/lib/app/pods/volume", "precious")
	for _, path := range []string{"/var/lib/app", "/var/lib/app/pods"} {
		if err := h.RemoveAll(path); err == nil || !strings.Contains(err.Error(), mounted+" is a mount point") {
			t.Errorf("RemoveAll(%s): %v", path, err)
		}
	}
	if got := content(t, h, "/var/lib/app/pods/volume"); got != "precious" {
		t.Errorf("the mount now holds %q", got)
	}
}
