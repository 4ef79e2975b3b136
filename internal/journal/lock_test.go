package journal

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestSecondLockNamesTheHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := Lock(path, "install", time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path, "reset", time.Unix(0, 0)); problem.ExitCode(err) != problem.ExitLocked || !strings.Contains(err.Error(), "install, process") {
		t.Errorf("second lock: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(path, "reset", time.Unix(0, 0))
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	must(t, again())
}

func TestALockThatOnlyADeadRunsProgramsHoldIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	note, err := json.Marshal(Holder{PID: 1 << 30, Verb: "install"}) // no such process
	must(t, err)
	release, _, err := host.Lock(path, note)
	must(t, err)
	ended := time.AfterFunc(300*time.Millisecond, func() { _ = release() })
	defer ended.Stop()
	again, err := Lock(path, "install", time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	must(t, again())
}
