package probe

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// benchTempFile is a file descriptor of a file without a name: the kernel
// deletes the file when the descriptor is closed.
type benchTempFile int

// openBenchFile creates a benchTempFile in dir and reserves size bytes for it.
// On a file system without O_TMPFILE it removes the name of the file before
// anything is written.
func openBenchFile(dir string, size int64) (BenchFile, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		name := filepath.Join(dir, ".plinth-measure-"+strconv.Itoa(unix.Getpid()))
		if fd, err = unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600); err == nil {
			err = unix.Unlink(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot create a file in %s: %w", dir, err)
	}
	// etcd preallocates its log; a file system that cannot is measured without that.
	_ = unix.Fallocate(fd, 0, 0, size)
	return benchTempFile(fd), nil
}

func (f benchTempFile) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		n, err := unix.Write(int(f), b[done:])
		if err != nil && !errors.Is(err, unix.EINTR) {
			return done, err
		}
		done += max(n, 0)
	}
	return len(b), nil
}

// Sync waits until the data has reached the disk.
func (f benchTempFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f)); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (f benchTempFile) Close() error { return unix.Close(int(f)) }

// trackCPUWait locks the goroutine to its thread and returns a function that
// reads how long this thread has waited for a processor, and one that ends the
// tracking. The source is /proc/PID/schedstat (kernel documentation,
// sched-stats: time on a processor and time waited for one, in nanoseconds). On
// a kernel without it the wait is always 0.
func trackCPUWait() (total func() time.Duration, done func()) {
	runtime.LockOSThread()
	fd, err := unix.Open("/proc/thread-self/schedstat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() time.Duration { return 0 }, runtime.UnlockOSThread
	}
	var text [96]byte
	total = func() time.Duration {
		n, err := unix.Pread(fd, text[:], 0)
		if err != nil {
			return 0
		}
		_, rest, _ := strings.Cut(string(text[:n]), " ")
		waited, _, _ := strings.Cut(rest, " ")
		ns, err := strconv.ParseInt(waited, 10, 64)
		if err != nil {
			return 0
		}
		return time.Duration(ns)
	}
	return total, func() { _ = unix.Close(fd); runtime.UnlockOSThread() }
}
