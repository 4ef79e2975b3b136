package node

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
)

func TestDirectory_CreatedWithMode(t *testing.T) {
	f := hosttest.New(t)
	d := Directory{Path: "/var/lib/plinth", Mode: 0o700}
	if missing, err := d.Check(f.Host()); err != nil || missing != "/var/lib/plinth does not exist" {
		t.Errorf("Check before: %q, %v", missing, err)
	}
	if err := d.Apply(f.Host()); err != nil {
		t.Fatal(err)
	}
	if missing, err := d.Check(f.Host()); err != nil || missing != "" {
		t.Errorf("Check after: %q, %v", missing, err)
	}
	if err := os.Chmod(filepath.Join(f.Root, d.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	if missing, _ := d.Check(f.Host()); missing != "/var/lib/plinth has mode 0755, needs 0700" {
		t.Errorf("Check of a different mode: %q", missing)
	}
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/var/lib/file": "x"})
	if _, err := (Directory{Path: "/var/lib/file", Mode: 0o700}).Check(f.Host()); err == nil {
		t.Error("a file in place of the folder must be an error")
	}
}

func TestDataDir_VolumesAreReachableByRootOnly(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(path string) error
		chown   bool
	}{
		"a new host":             {func(string) error { return nil }, false},
		"created by kubelet":     {func(path string) error { return os.MkdirAll(path+"/pvc-1", 0o755) }, false},
		"opened for everyone":    {func(path string) error { return errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, 0o777)) }, false},
		"owned by another user":  {func(path string) error { return errors.Join(os.MkdirAll(path, 0o700), os.Chown(path, 1000, 0)) }, true},
		"owned by another group": {func(path string) error { return errors.Join(os.MkdirAll(path, 0o700), os.Chown(path, 0, 1000)) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.chown && os.Geteuid() != 0 {
				t.Skip("only root can give a folder to another user")
			}
			f := hosttest.New(t)
			d, volumes := DataDir{Path: "/var/lib/plinth"}, filepath.Join(f.Root, "/var/lib/plinth/volumes")
			testkit.Must(t, os.MkdirAll(filepath.Dir(volumes), 0o711), os.Chmod(filepath.Dir(volumes), 0o711), c.prepare(volumes))
			if missing, err := d.Check(host.ReadOnly(f.Host())); err != nil || !strings.HasPrefix(missing, "/var/lib/plinth/volumes ") {
				t.Errorf("Check before: %q, %v", missing, err)
			}
			if c.chown {
				f.Expect("chown 0:0 /var/lib/plinth/volumes").Do(func(host.Cmd) { testkit.Must(t, os.Chown(volumes, 0, 0)) })
			}
			testkit.Must(t, d.Apply(t.Context(), f.Host()))
			if info, err := os.Stat(volumes); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%v, %v", info, err)
			}
			if missing, err := d.Check(host.ReadOnly(f.Host())); err != nil || missing != "" {
				t.Errorf("Check after: %q, %v", missing, err)
			}
		})
	}
}

func TestArtifact_CheckComparesSizeModeAndDigest(t *testing.T) {
	content := []byte("#!/bin/sh\n")
	a := Artifact{Path: "/usr/local/bin/k0s", Mode: 0o755, Size: int64(len(content)), Digest: digest.FromBytes(content),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}
	f := hosttest.New(t)
	check := func(h host.Host, want string) {
		t.Helper()
		if missing, err := a.Check(t.Context(), h); err != nil || missing != want {
			t.Errorf("Check: %q, %v; want %q", missing, err, want)
		}
	}
	ro := host.ReadOnly(f.Host())
	check(ro, "/usr/local/bin/k0s does not exist")
	if err := a.Apply(f.Host()); err != nil {
		t.Fatal(err)
	}
	check(ro, "")
	real := filepath.Join(f.Root, a.Path)
	if err := os.WriteFile(real, bytes.ToUpper(content), 0o755); err != nil {
		t.Fatal(err)
	}
	check(ro, "/usr/local/bin/k0s differs from the file in the bundle")
	if err := os.Chmod(real, 0o644); err != nil {
		t.Fatal(err)
	}
	check(ro, "/usr/local/bin/k0s has mode 0644, needs 0755")
	if err := os.WriteFile(real, []byte("short"), 0o755); err != nil {
		t.Fatal(err)
	}
	check(ro, "/usr/local/bin/k0s has 5 bytes, needs 10")
}

func TestArtifact_ApplyKeepsOldFileWhenNewIsDamaged(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o644, map[string]string{"/usr/local/bin/k0s": "old"})
	damaged := errors.New("digest differs")
	a := Artifact{Path: "/usr/local/bin/k0s", Mode: 0o755,
		Open: func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("half of it"), failingReader{damaged})), nil
		}}
	if err := a.Apply(f.Host()); !errors.Is(err, damaged) {
		t.Errorf("error %v, want %v", err, damaged)
	}
	if got := readFile(t, f, a.Path); got != "old" {
		t.Errorf("content %q, want the old one", got)
	}
	if entries, _ := os.ReadDir(filepath.Join(f.Root, "/usr/local/bin")); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
