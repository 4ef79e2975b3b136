package journal

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

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
