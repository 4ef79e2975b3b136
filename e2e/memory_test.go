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

// peak runs a program here and gives the most memory that it held, in bytes,
// and how it ended. GNU time stands between: a child of this process starts in
// this process's memory, and the kernel counts that as the child's.
func peak(t *testing.T, ctx context.Context, program string, args ...string) (int64, string, error) {
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

// version runs `version` nine times and gives the times, shortest first, and
// the largest memory in bytes. The file is read from the disk first: what was written a
// moment ago lies in the page cache in pieces of up to 2 MB, which are mapped,
// and counted, as a whole.
func version(t *testing.T, ctx context.Context, program string) (times []time.Duration, memory int64) {
	t.Helper()
	fromDisk(t, program)
	for range 9 {
		start := time.Now()
		if err := exec.CommandContext(ctx, program, "version").Run(); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(start))
		held, out, err := peak(t, ctx, program, "version")
		if err != nil {
			t.Fatal(err, out)
		}
		memory = max(memory, held)
	}
	slices.Sort(times)
	return times, memory
}

// fromDisk has a file written to the disk and forgotten by the page cache.
func fromDisk(t *testing.T, path string) {
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
