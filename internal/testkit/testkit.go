// Package testkit contains helpers for tests: golden files and small disks.
package testkit

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Golden compares got with the file at path, which is relative to the test's folder.
// With -update it writes the file instead.
func Golden(t testing.TB, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (create it with -update)", err)
	}
	if string(want) != string(got) {
		t.Errorf("differs from %s (refresh with -update and read the diff):\n--- got\n%s\n--- want\n%s", path, got, want)
	}
}

// SmallDisk returns a folder on a file system of size bytes. It skips the test if that
// cannot be mounted.
func SmallDisk(t testing.TB, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// Must ends the test when one of errs is not nil.
func Must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// WriteFiles writes files, by their paths below root, with mode perm, and creates
// the folders above them. It returns root.
func WriteFiles(t testing.TB, root string, perm os.FileMode, files map[string]string) string {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		Must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), perm))
	}
	return root
}

// WriteFile writes one file, as WriteFiles does, with mode 0644.
func WriteFile(t testing.TB, root, name, content string) {
	t.Helper()
	WriteFiles(t, root, 0o644, map[string]string{name: content})
}
