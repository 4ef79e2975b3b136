package blob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// tempPattern is the name pattern of temporary files.
const tempPattern = ".plinth-*"

// TempFile creates a file in dir that has no name: it disappears when it is
// closed, even if the process is killed. Its content is on disk, not in memory.
func TempFile(dir string) (*os.File, error) {
	f, err := openTmpfile(dir)
	if !errors.Is(err, errNoTmpfile) {
		return f, err
	}
	if f, err = os.CreateTemp(dir, tempPattern); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// errNoTmpfile marks a file system without files that have no name.
var errNoTmpfile = errors.New("the file system does not support O_TMPFILE")

// openTmpfile creates a file in dir that has no name yet (mode 0600), with the flag
// O_TMPFILE of open(2). It returns errNoTmpfile if that is not supported.
func openTmpfile(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		return nil, errNoTmpfile
	}
	return f, err
}

// linkTmpfile gives a file of openTmpfile an unused name in dir and returns its
// path. The name must be unused because linkat(2) does not replace a file.
func linkTmpfile(f *os.File, dir string) (string, error) {
	for n := range 100 {
		name := filepath.Join(dir, ".plinth-"+strconv.Itoa(os.Getpid())+"-"+strconv.Itoa(n))
		err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
	}
	return "", fs.ErrExist
}
