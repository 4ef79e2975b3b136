package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestFileSnapshot_RestoresByteForByte(t *testing.T) {
	f := hosttest.New(t)
	h := f.Host()
	testkit.WriteFiles(t, f.Root, 0o755, map[string]string{"/usr/local/bin/k0s": "old", "/usr/local/bin/kots": "same"})
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{"/data/bundle/index.json": "{}", "/data/bundle/blobs/sha256/a": "a"})
	testkit.Must(t, os.Symlink("/elsewhere", filepath.Join(f.Root, "/usr/local/bin/plinth")))
	s, err := TakeFileSnapshot(h, "/data/upgrade/x", []string{"/usr/local/bin/k0s", "/usr/local/bin/kots", "/usr/local/bin/plinth", "/etc/new.conf"}, []string{"/data/bundle", "/etc/none"})
	testkit.Must(t, err)
	if restore, remove, err := s.Changed(t.Context(), h); err != nil || len(restore)+len(remove) > 0 || len(s.Files) != 5 {
		t.Fatalf("unchanged: %v %v %v of %+v", restore, remove, err, s.Files)
	}
	testkit.Must(t, h.Write("/usr/local/bin/k0s", strings.NewReader("new"), 0o700), h.Write("/etc/new.conf", strings.NewReader("x"), 0o600),
		h.RemoveAll("/data/bundle/blobs/sha256/a"), h.Write("/data/bundle/blobs/sha256/b", strings.NewReader("b"), 0o600),
		h.Write("/data/bundle/deep/er/c", strings.NewReader("c"), 0o600), h.Write("/etc/none/d", strings.NewReader("d"), 0o600))
	restore, remove, err := s.Changed(t.Context(), h)
	testkit.Must(t, err)
	if len(restore) != 2 || strings.Join(remove, " ") != "/data/bundle/blobs/sha256/b /data/bundle/deep/er/c /etc/new.conf /etc/none/d" {
		t.Errorf("restore %v, remove %v", restore, remove)
	}
	testkit.Must(t, s.Restore(t.Context(), h), s.Restore(t.Context(), h))
	if restore, remove, err := s.Changed(t.Context(), h); err != nil || len(restore)+len(remove) > 0 {
		t.Errorf("after the restore: %v %v %v", restore, remove, err)
	}
	info, err := h.Lstat("/usr/local/bin/k0s")
	testkit.Must(t, err)
	if raw, _ := h.ReadFile("/usr/local/bin/k0s"); string(raw) != "old" || info.Mode().Perm() != 0o755 {
		t.Errorf("%q with mode %v", raw, info.Mode())
	}
	if _, err := h.Lstat("/data/bundle/deep"); err == nil {
		t.Error("a folder that did not exist is still there")
	}
}

func TestFileSnapshot_RefusesADamagedCopy(t *testing.T) {
	f := hosttest.New(t)
	h := f.Host()
	testkit.WriteFiles(t, f.Root, 0o755, map[string]string{"/bin/k0s": "old"})
	s, err := TakeFileSnapshot(h, "/copies", []string{"/bin/k0s"}, nil)
	testkit.Must(t, err)
	testkit.Must(t, h.Write("/copies/bin/k0s", strings.NewReader("odd"), 0o600), h.Write("/bin/k0s", strings.NewReader("new"), 0o755))
	if err := s.Restore(t.Context(), h); err == nil || !strings.Contains(err.Error(), "cannot restore /bin/k0s") {
		t.Error(err)
	}
	if raw, _ := h.ReadFile("/bin/k0s"); string(raw) != "new" {
		t.Errorf("a damaged copy was written: %q", raw)
	}
}
