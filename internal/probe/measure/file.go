package measure

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// unnamed is a file that the kernel forgets when the last descriptor closes.
type unnamed int

// open makes one. Where a file system cannot (O_TMPFILE), the name is taken
// away before anything is written.
func open(dir string, size int64) (File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		name := filepath.Join(dir, ".plinth-measure-"+strconv.Itoa(unix.Getpid()))
		if fd, err = unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600); err == nil {
			err = unix.Unlink(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make a file in %s: %w", dir, err)
	}
	// etcd reserves its log's room; a file system that cannot is measured without.
	_ = unix.Fallocate(fd, 0, 0, size)
	return unnamed(fd), nil
}

func (f unnamed) Write(b []byte) (int, error) {
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
func (f unnamed) Sync() error {
	for {
		if err := unix.Fdatasync(int(f)); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (f unnamed) Close() error { return unix.Close(int(f)) }
