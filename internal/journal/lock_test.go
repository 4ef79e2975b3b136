package journal

import (
	"context"
	"encoding/json"
	"github.com/plinthdev/plinth/internal/testkit"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestLock_NamesHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, notice, err := Lock(t.Context(), path, "install", time.Unix(0, 0))
	if err != nil || notice != "" {
		t.Fatal(err, notice)
	}
	if _, _, err := Lock(t.Context(), path, "reset", time.Unix(0, 0)); problem.ExitCode(err) != problem.ExitLocked || !strings.Contains(err.Error(), "install, process") {
		t.Errorf("second lock: %v", err)
	}
	files := host.Local("/")
	if h, ok := CurrentHolder(files, path); !ok || h.Verb != "install" || h.PID != os.Getpid() {
		t.Errorf("holder %+v, %v", h, ok)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if h, ok := CurrentHolder(files, path); ok {
		t.Errorf("holder after release: %+v", h)
	}
	again, notice, err := Lock(t.Context(), path, "reset", time.Unix(0, 0))
	if err != nil || notice != "" {
		t.Fatalf("after release: %v, %q", err, notice)
	}
	testkit.Must(t, again())
}

func TestLock_WaitsForProgramsOfDeadRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	note, err := json.Marshal(Holder{PID: 1 << 30, Verb: "install"}) // no such process
	testkit.Must(t, err)
	release, _, err := host.Lock(path, note)
	testkit.Must(t, err)
	ended := time.AfterFunc(300*time.Millisecond, func() { _ = release() })
	defer ended.Stop()
	again, _, err := Lock(t.Context(), path, "install", time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Must(t, again())
}

func TestLock_NamesDeadRunWhoseProgramsKeepLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "lock")
		note, err := json.Marshal(Holder{PID: 1 << 30, Verb: "install", StartedAt: time.Unix(0, 0).UTC()})
		testkit.Must(t, err)
		release, _, err := host.Lock(path, note)
		testkit.Must(t, err)
		_, _, err = Lock(t.Context(), path, "reset", time.Unix(0, 0))
		if problem.ExitCode(err) != problem.ExitLocked || !strings.Contains(err.Error(), "programs started by a run that died are still running: install, process 1073741824, since 1970-01-01T00:00:00Z") ||
			!strings.Contains(problem.Hint(err), "sudo fuser -v "+path) {
			t.Errorf("%v (%s)", err, problem.Hint(err))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err = Lock(ctx, path, "reset", time.Unix(0, 0)); problem.ExitCode(err) != problem.ExitInterrupted {
			t.Errorf("interrupted: %v", err)
		}
		testkit.Must(t, release())
	})
}

func TestLock_TakesOverLockOfDeadRunWithNotice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	testkit.Must(t, os.WriteFile(path, []byte(`{"pid":42,"verb":"install","startedAt":"2026-01-02T03:04:05Z"}`), 0o600))
	release, notice, err := Lock(t.Context(), path, "reset", time.Unix(0, 0))
	if err != nil || notice != "taking over the lock of a run that died: install, process 42, since 2026-01-02T03:04:05Z" {
		t.Errorf("%q, %v", notice, err)
	}
	testkit.Must(t, release())
}
