package blob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// temporary is what names begin with that stand for a moment only.
const temporary = ".plinth-*"

// WorkFile makes a file in dir that has no name: nothing is left of it
// whatever happens, and no memory is spent on what is written to it.
func WorkFile(dir string) (*os.File, error) {
	f, err := unnamed(dir)
	if !errors.Is(err, errNames) {
		return f, err
	}
	if f, err = os.CreateTemp(dir, temporary); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// errNames is a file system where every file has a name.
var errNames = errors.New("it has no files without names")

// unnamed makes a file in dir that has no name yet (mode 0600), by the flag
// O_TMPFILE of open(2), or errNames where that cannot be.
func unnamed(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		return nil, errNames
	}
	return f, err
}

// named gives a file of unnamed a name in dir: one that is nobody's, for a
// link does not replace.
func named(f *os.File, dir string) (string, error) {
	for n := range 100 {
		name := filepath.Join(dir, ".plinth-"+strconv.Itoa(os.Getpid())+"-"+strconv.Itoa(n))
		err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
	}
	return "", fs.ErrExist
}
