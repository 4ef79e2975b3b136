package host_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/testkit"
)

// testLocalAndFake runs a test on the real files and on those of the fake: what the tests of a
// consumer check on the fake must hold on a real host.
func testLocalAndFake(t *testing.T, test func(t *testing.T, h host.Host, root string)) {
	t.Run("local", func(t *testing.T) {
		root := t.TempDir()
		test(t, host.Local(root), root)
	})
	t.Run("fake", func(t *testing.T) {
		f := hosttest.New(t)
		test(t, f.Host(), f.Root)
	})
}

func writeFile(t *testing.T, f host.Files, path, content string) {
	t.Helper()
	if err := f.Write(path, strings.NewReader(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, f host.Files, path string) string {
	t.Helper()
	b, err := f.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func filePerm(t *testing.T, f host.Files, path string) fs.FileMode {
	t.Helper()
	info, err := f.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func listNames(t *testing.T, f host.Files, path string) string {
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

func TestReadTail_ReturnsTheEnd(t *testing.T) {
	h := host.Local(t.TempDir())
	testkit.Must(t, h.Write("/a", strings.NewReader("first\nsecond\nthird\n"), 0o600))
	for limit, want := range map[int64]string{6: "third\n", 7: "\nthird\n", 100: "first\nsecond\nthird\n"} {
		if got, err := host.ReadTail(h, "/a", limit); err != nil || string(got) != want {
			t.Errorf("%d bytes: %q %v, want %q", limit, got, err, want)
		}
	}
	if got, err := host.ReadTail(host.Local("/"), "/proc/self/stat", 2); err != nil || len(got) != 2 || got[1] != '\n' {
		t.Errorf("%q %v", got, err)
	}
	if _, err := host.ReadTail(h, "/b", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestWrite_SetsExactModeDespiteUmask(t *testing.T) {
	old := unix.Umask(0o077)
	t.Cleanup(func() { unix.Umask(old) })
	testLocalAndFake(t, func(t *testing.T, h host.Host, _ string) {
		for _, want := range []fs.FileMode{0o600, 0o644, 0o755, 0o666} {
			if err := h.Write("/etc/app/file", strings.NewReader("x"), want); err != nil {
				t.Fatal(err)
			}
			if got := filePerm(t, h, "/etc/app/file"); got != want {
				t.Errorf("file has mode %o, want %o", got, want)
			}
			// The second time it exists already.
			for range 2 {
				if err := h.MkdirAll("/var/app/dir", want|0o100); err != nil {
					t.Fatal(err)
				}
			}
			if got := filePerm(t, h, "/var/app/dir"); got != want|0o100 {
				t.Errorf("folder has mode %o, want %o", got, want|0o100)
			}
		}
	})
}

// truncatedReader returns a reader that fails with err after content.
func truncatedReader(content string, err error) io.Reader {
	return io.MultiReader(strings.NewReader(content), failingReader{err})
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

func TestWrite_FailureKeepsOldFileAndLeavesNoTemp(t *testing.T) {
	testLocalAndFake(t, func(t *testing.T, h host.Host, _ string) {
		writeFile(t, h, "/etc/app/conf", "old")
		damaged := errors.New("wrong digest")
		if err := h.Write("/etc/app/conf", truncatedReader("new but not all", damaged), 0o600); !errors.Is(err, damaged) {
			t.Fatalf("error is %v, want the reader's", err)
		}
		if got := readFile(t, h, "/etc/app/conf"); got != "old" {
			t.Errorf("file holds %q", got)
		}
		if got := filePerm(t, h, "/etc/app/conf"); got != 0o644 {
			t.Errorf("file has mode %o", got)
		}
		if got := listNames(t, h, "/etc/app"); got != "conf" {
			t.Errorf("the folder holds %q", got)
		}
	})
}

func TestPlace_CreatesWholeFileOrNone(t *testing.T) {
	testLocalAndFake(t, func(t *testing.T, h host.Host, _ string) {
		damaged := errors.New("wrong digest")
		if err := h.Place("/store/blobs/one", truncatedReader("some of it", damaged), 0o444); !errors.Is(err, damaged) {
			t.Fatalf("error is %v, want the reader's", err)
		}
		if got := listNames(t, h, "/store/blobs"); got != "" {
			t.Errorf("the folder holds %q", got)
		}
		if err := h.Place("/store/blobs/one", strings.NewReader("all of it"), 0o444); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, h, "/store/blobs/one"); got != "all of it" || filePerm(t, h, "/store/blobs/one") != 0o444 || listNames(t, h, "/store/blobs") != "one" {
			t.Errorf("the file holds %q with mode %o, the folder %q", got, filePerm(t, h, "/store/blobs/one"), listNames(t, h, "/store/blobs"))
		}
		if err := h.Place("/store/blobs/one", failingReader{damaged}, 0o444); !errors.Is(err, fs.ErrExist) {
			t.Errorf("what is there: %v", err)
		}
		if err := host.ReadOnly(h).Place("/store/blobs/two", strings.NewReader(""), 0o444); err == nil || listNames(t, h, "/store/blobs") != "one" {
			t.Errorf("a read-only host placed a file: %v", err)
		}
	})
}

func TestWrite_ReplacesLinkNotItsTarget(t *testing.T) {
	testLocalAndFake(t, func(t *testing.T, h host.Host, root string) {
		writeFile(t, h, "/etc/other", "theirs")
		symlink(t, root, "/etc/other", "/etc/conf")
		writeFile(t, h, "/etc/conf", "ours")
		if readFile(t, h, "/etc/other") != "theirs" || readFile(t, h, "/etc/conf") != "ours" {
			t.Errorf("the write went through the link")
		}
	})
}

func TestSymlink_ReplacesFileAndLink(t *testing.T) {
	testLocalAndFake(t, func(t *testing.T, h host.Host, root string) {
		writeFile(t, h, "/etc/app/1.pem", "one")
		writeFile(t, h, "/etc/app/2.pem", "two")
		writeFile(t, h, "/etc/app/current", "a file")
		writeFile(t, h, host.TempPath("/etc/app/current"), "left by a killed run")
		for target, want := range map[string]string{"1.pem": "one", "2.pem": "two"} {
			if err := h.Symlink(target, "/etc/app/current"); err != nil {
				t.Fatal(err)
			}
			if got, err := os.Readlink(filepath.Join(root, "etc/app/current")); got != target || err != nil || readFile(t, h, "/etc/app/current") != want {
				t.Errorf("link to %q, %v", got, err)
			}
		}
		if got := listNames(t, h, "/etc/app"); got != "1.pem 2.pem current" {
			t.Errorf("files %s", got)
		}
		if err := h.Symlink("x", "/new/folder/link"); err != nil {
			t.Error(err)
		}
	})
}

func symlink(t *testing.T, root, to, at string) {
	t.Helper()
	if err := os.Symlink(filepath.Join(root, to), filepath.Join(root, at)); err != nil {
		t.Fatal(err)
	}
}

func TestRemoveAll_RemovesTreeWithoutFollowingLinks(t *testing.T) {
	testLocalAndFake(t, func(t *testing.T, h host.Host, root string) {
		writeFile(t, h, "/var/lib/app/a/b/file", "x")
		writeFile(t, h, "/home/me/precious", "mine")
		symlink(t, root, "/home/me", "/var/lib/app/a/home")
		symlink(t, root, "/home/me/precious", "/var/lib/app/link")
		symlink(t, root, "/nowhere", "/var/lib/app/dangling")
		for range 2 { // a missing path is not an error
			if err := h.RemoveAll("/var/lib/app"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Lstat("/var/lib/app"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
		if got := readFile(t, h, "/home/me/precious"); got != "mine" {
			t.Errorf("behind the link is now %q", got)
		}
	})
}

func TestRemoveAll_RemovesLinkNotItsTarget(t *testing.T) {
	testLocalAndFake(t, func(t *testing.T, h host.Host, root string) {
		writeFile(t, h, "/home/me/precious", "mine")
		symlink(t, root, "/home/me", "/opt-link")
		if err := h.RemoveAll("/opt-link"); err != nil {
			t.Fatal(err)
		}
		if got := listNames(t, h, "/"); got != "home" {
			t.Errorf("root holds %q", got)
		}
		if got := readFile(t, h, "/home/me/precious"); got != "mine" {
			t.Errorf("behind the link is now %q", got)
		}
	})
}

func TestRemoveAll_RefusesSystemFolders(t *testing.T) {
	paths := []string{"/", "//", "/.", "/..", "/usr/..", "/etc", "/etc/", "/etc/.", "/var/lib/..", "/usr/../etc", "/home", "/usr", "/mnt", "relative", "../etc", ""}
	testLocalAndFake(t, func(t *testing.T, h host.Host, _ string) {
		for _, dir := range []string{"etc", "var", "home", "usr", "mnt"} {
			writeFile(t, h, "/"+dir+"/file", "x")
		}
		for _, p := range paths {
			t.Run(fmt.Sprintf("%q", p), func(t *testing.T) {
				if err := h.RemoveAll(p); err == nil {
					t.Errorf("RemoveAll(%q) was not refused", p)
				}
			})
		}
		if got := listNames(t, h, "/"); got != "etc home mnt usr var" {
			t.Errorf("root now holds %q", got)
		}
	})
}

func TestLocalPath_StaysBelowRoot(t *testing.T) {
	testLocalAndFake(t, func(t *testing.T, h host.Host, root string) {
		writeFile(t, h, "/../../etc/./x/../conf", "inside")
		if b, err := os.ReadFile(filepath.Join(root, "etc/conf")); err != nil || string(b) != "inside" {
			t.Errorf("root/etc/conf: %q, %v", b, err)
		}
		for name, err := range map[string]error{
			"Write":    h.Write("conf", strings.NewReader(""), 0o600),
			"MkdirAll": h.MkdirAll("conf", 0o700),
			"ReadFile": errorOf(h.ReadFile("etc/conf")),
			"ReadDir":  errorOf(h.ReadDir("etc")),
			"Lstat":    errorOf(h.Lstat("etc")),
			"OpenFile": errorOf(h.OpenFile("etc/conf")),
			"Place":    h.Place("conf", strings.NewReader(""), 0o600),
			"Symlink":  h.Symlink("/etc/conf", "conf"),
		} {
			t.Run(name, func(t *testing.T) {
				if err == nil || !strings.Contains(err.Error(), "not absolute") {
					t.Errorf("a relative path was accepted: %v", err)
				}
			})
		}
	})
}

func errorOf[T any](_ T, err error) error { return err }

func TestReadFile_ReportsMissingFile(t *testing.T) {
	testLocalAndFake(t, func(t *testing.T, h host.Host, root string) {
		for name, err := range map[string]error{
			"ReadFile": errorOf(h.ReadFile("/none")),
			"ReadDir":  errorOf(h.ReadDir("/none")),
			"Lstat":    errorOf(h.Lstat("/none")),
			"OpenFile": errorOf(h.OpenFile("/none")),
		} {
			t.Run(name, func(t *testing.T) {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("error is %v, want fs.ErrNotExist", err)
				}
			})
		}
		symlink(t, root, "/none", "/dangling")
		if info, err := h.Lstat("/dangling"); err != nil || info.Mode().Type() != fs.ModeSymlink {
			t.Errorf("Lstat follows links: %v, %v", info, err)
		}
	})
}

func TestRemoveAll_StopsAtMountAndNamesIt(t *testing.T) {
	root := t.TempDir()
	h := host.Local(root)
	writeFile(t, h, "/var/lib/app/file", "x")
	mounted := filepath.Join(root, "var/lib/app/pods")
	if err := os.Mkdir(mounted, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", mounted, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) })
	writeFile(t, h, "/var/lib/app/pods/volume", "precious")
	for _, path := range []string{"/var/lib/app", "/var/lib/app/pods"} {
		t.Run(path, func(t *testing.T) {
			if err := h.RemoveAll(path); err == nil || !strings.Contains(err.Error(), mounted+" is a mount point") {
				t.Errorf("RemoveAll(%s): %v", path, err)
			}
		})
	}
	if got := readFile(t, h, "/var/lib/app/pods/volume"); got != "precious" {
		t.Errorf("the mount now holds %q", got)
	}
}

// An interface that holds a nil *os.File is not nil, and panics when it is used.
func TestOpenFile_ReturnsNilWithError(t *testing.T) {
	dir := t.TempDir()
	if f, err := host.Local(dir).OpenFile("/missing"); err == nil || f != nil {
		t.Errorf("%#v, %v", f, err)
	}
	if f, err := host.CreateLogFile(dir); err == nil || f != nil {
		t.Errorf("%#v, %v", f, err)
	}
}

func TestOpenFile_DoesNotWaitForAWriter(t *testing.T) {
	dir := t.TempDir()
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err := errors.Join(err, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600), os.Symlink("pipe", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	for _, name := range []string{"pipe", "link", "socket"} {
		t.Run(name, func(t *testing.T) {
			if f, err := host.Local(dir).OpenFile("/" + name); f != nil || err == nil || !strings.Contains(err.Error(), "it is a pipe or a socket, not a file") {
				t.Errorf("%v, %v", f, err)
			}
		})
	}
}
