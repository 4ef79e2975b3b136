//go:build e2e || bench

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// measurePeakMemory runs a program on this machine and returns its peak resident
// memory in bytes, its output and its error. GNU time starts it: a child of this
// process would start in this process's memory, which the kernel would count.
func measurePeakMemory(t *testing.T, ctx context.Context, program string, args ...string) (int64, string, error) {
	t.Helper()
	record := filepath.Join(t.TempDir(), "peak")
	cmd := exec.CommandContext(ctx, "/usr/bin/time", append([]string{"-q", "-f", "%M", "-o", record, program}, args...)...)
	out, runErr := cmd.CombinedOutput()
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err, string(out))
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib * 1024, string(out), runErr
}

// measureVersion runs `version` nine times and returns the times, shortest first, and
// the largest peak memory in bytes. The file is read from the disk first: a file that
// was just written is in the page cache in pieces of up to 2 MB, each of which is
// mapped, and counted, as a whole.
func measureVersion(t *testing.T, ctx context.Context, program string) (times []time.Duration, memory int64) {
	t.Helper()
	evictFromPageCache(t, program)
	for range 9 {
		start := time.Now()
		if err := exec.CommandContext(ctx, program, "version").Run(); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(start))
		held, out, err := measurePeakMemory(t, ctx, program, "version")
		if err != nil {
			t.Fatal(err, out)
		}
		memory = max(memory, held)
	}
	slices.Sort(times)
	return times, memory
}

// evictFromPageCache writes a file to the disk and drops it from the page cache.
func evictFromPageCache(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}
