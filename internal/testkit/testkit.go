// Package testkit contains helpers for tests: golden files, small disks, bounds of parsers.
package testkit

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

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

// Bounds of a parser of untrusted input.
const (
	// MaxInput is the largest input, in bytes, for which CheckBounds applies.
	MaxInput  = 1 << 20
	maxMemory = 300 << 20
	// maxTime is six times the bound of the product, for slow and busy machines and
	// for instrumented code: tests count work where they can.
	maxTime = 60 * time.Second
)

// CheckBounds runs parse, which reads an untrusted input of up to MaxInput bytes. It
// fails the test if more than 300 MB are live in the heap meanwhile, or if parse takes far
// more than 10 seconds of processor time.
func CheckBounds(t testing.TB, parse func()) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent)) // so that what is live is measured often
	runtime.GC()                                            // what earlier tests left behind
	begin, done, peak := cpuTime(t), make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for ticker := time.NewTicker(time.Millisecond); ; {
			most = max(most, liveHeap())
			select {
			case <-ticker.C:
			case <-done:
				ticker.Stop()
				peak <- most
				return
			}
		}
	}()
	parse()
	close(done)
	if most := <-peak; most > maxMemory {
		t.Errorf("needs %d MB of memory", most>>20)
	}
	if used := cpuTime(t) - begin; used > maxTime {
		t.Errorf("takes %s of processor time", used)
	}
}

// gcPercent is how much the heap may grow before it is collected again.
const gcPercent = 20

// liveHeap returns the bytes that were reachable at the last garbage collection.
func liveHeap() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64()
}

// cpuTime returns the processor time that this process has used.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var used unix.Rusage
	Must(t, unix.Getrusage(unix.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
