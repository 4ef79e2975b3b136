package reset

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/step"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// on is a reset of a fake host whose data folder is dir.
func on(t *testing.T, dir string) (job, *hosttest.Fake) {
	t.Helper()
	f := hosttest.New(t)
	must(t, os.MkdirAll(filepath.Join(f.Root, "/proc/self"), 0o755))
	must(t, os.WriteFile(filepath.Join(f.Root, "/proc/self/mountinfo"), []byte("24 1 254:1 / / rw - ext4 /dev/vda1 rw\n"), 0o600))
	return job{&run.Run{Host: f.Host(), Config: run.Config{DataDir: dir, Now: time.Now, Note: func(string) {}, Events: func(step.Event) {},
		Confirm: func(context.Context, string) error { return nil }}}}, f
}

func TestTheDataFolderIsAsItWasBefore(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"there was none": 0, "the administrator's": 0o750} {
		t.Run(name, func(t *testing.T) {
			a, f := on(t, "/data/plinth")
			dir, pointer := filepath.Join(f.Root, "/data/plinth"), filepath.Join(f.Root, journal.Pointer)
			must(t, os.MkdirAll(filepath.Dir(dir), 0o755))
			must(t, os.MkdirAll(filepath.Dir(pointer), 0o755))
			if mode != 0 {
				must(t, os.Mkdir(dir, mode))
			}
			j, err := a.Journal()
			must(t, err)
			must(t, j.Begin("install", nil))
			must(t, os.WriteFile(filepath.Join(dir, "receipt.json"), nil, 0o600))
			must(t, os.WriteFile(pointer, []byte("/data/plinth\n"), 0o600))
			if got := journal.Dir(a.Host); got != "/data/plinth" {
				t.Fatalf("other commands look in %s", got)
			}
			res, err := a.reset(t.Context(), false)
			must(t, err)
			info, err := os.Stat(dir)
			if there := err == nil; !res.Changed || there != (mode != 0) || there && info.Mode().Perm() != mode {
				t.Errorf("%+v: %v %v", res, info, err)
			}
			if _, err := os.Stat(pointer); err == nil {
				t.Error("the pointer is still there")
			}
		})
	}
}
