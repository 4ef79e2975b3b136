package host

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrLocked means that another process holds a lock.
var ErrLocked = errors.New("held by another process")

// Lock takes the lock file at path, on the root of this machine, and writes note into it for others
// to read. The lock is held until release is called, or until this process and all programs that it
// started have ended: programs that a killed run left may still write. If the error is ErrLocked,
// holder is the note of the process that holds the lock; otherwise it is the note of a process that
// ended without releasing it.
func Lock(path string, note []byte) (release func() error, holder []byte, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	holder, _ = io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, holder, err
	}
	// Programs that are started from now on inherit the lock.
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFD, 0)
	if err := errors.Join(err, f.Truncate(0), writeAt(f, note)); err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	// The file is not removed: otherwise two runs could lock two files of the same name.
	return func() error {
		return errors.Join(f.Truncate(0), unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
	}, holder, nil
}

func writeAt(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

// CreateLogFile creates a log file that only its owner can read, and the folder if it is missing.
// It is an error if the file exists, because it may be any file.
func CreateLogFile(path string) (io.WriteCloser, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return file, nil
}

// ProcessExists reports whether a process has the id pid.
func ProcessExists(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }
