package host

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process holds a lock.
var ErrLocked = errors.New("held by another process")

// Lock takes the lock file at path, on this machine's own root, and leaves
// note in it for others to read. It ends with release, or with the process,
// however that dies, and with it all programs that it started: what a killed
// run left behind may still write. holder is the note of who holds it now, when
// the error is ErrLocked, or of who died holding it.
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
	// Programs that are started from now on inherit it.
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFD, 0)
	if err := errors.Join(err, f.Truncate(0), writeAt(f, note)); err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	// The file stays: removing it would let two runs lock two files of one name.
	return func() error {
		return errors.Join(f.Truncate(0), unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
	}, holder, nil
}

func writeAt(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

// CreateLog makes a new log file for its owner only; a missing folder is made
// for its owner only. A file that is there already is an error: it may be
// anything.
func CreateLog(path string) (io.WriteCloser, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
}

// Alive reports whether there is a process with that id.
func Alive(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }
