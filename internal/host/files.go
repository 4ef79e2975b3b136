package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// localFiles implements Files, Links and Streams on this machine, below root.
type localFiles struct{ root string }

var (
	_ Files = localFiles{}
	_ Links = localFiles{}
)

func (f localFiles) ReadFile(path string) ([]byte, error) {
	p, err := f.localPath(path)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(p)
}

func (f localFiles) OpenFile(path string) (io.ReadCloser, error) {
	p, err := f.localPath(path)
	if err != nil {
		return nil, err
	}
	// Without O_NONBLOCK, to open a pipe without a writer would take for ever. It has no effect on a file.
	file, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENXIO) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errPipe}
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.Mode().Type()&fs.ModeNamedPipe != 0 {
		err = &fs.PathError{Op: "open", Path: path, Err: errPipe}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// ReadTail returns the last limit bytes of the file at path; all of it if it has fewer.
func ReadTail(s Streams, path string, limit int64) ([]byte, error) {
	r, err := s.OpenFile(path)
	if err != nil {
		return nil, err
	}
	if seeker, ok := r.(io.Seeker); ok {
		// A file in /proc has the size 0, or cannot be positioned at its end: it is read from its beginning.
		if size, err := seeker.Seek(0, io.SeekEnd); err == nil {
			if _, err := seeker.Seek(max(0, size-limit), io.SeekStart); err != nil {
				return nil, errors.Join(err, r.Close())
			}
		}
	}
	tail := &tailBuffer{max: int(limit)}
	_, err = io.Copy(tail, r)
	return tail.Bytes(), errors.Join(err, r.Close())
}

func (f localFiles) Lstat(path string) (fs.FileInfo, error) {
	p, err := f.localPath(path)
	if err != nil {
		return nil, err
	}
	return os.Lstat(p)
}

func (f localFiles) ReadDir(path string) ([]fs.DirEntry, error) {
	p, err := f.localPath(path)
	if err != nil {
		return nil, err
	}
	return os.ReadDir(p)
}

func (f localFiles) Write(path string, r io.Reader, perm fs.FileMode) (err error) {
	p, err := f.localPath(path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(p)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.OpenFile(TempPath(p), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return writeError(path, TempPath(p), err)
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	if _, err := io.Copy(tmp, r); err != nil {
		return writeError(path, tmp.Name(), err)
	}
	if err := errors.Join(tmp.Chmod(perm), tmp.Sync(), tmp.Close()); err != nil {
		return writeError(path, tmp.Name(), err)
	}
	if err := os.Rename(tmp.Name(), p); err != nil {
		return writeError(path, tmp.Name(), err)
	}
	return syncDir(dir)
}

func (f localFiles) Symlink(target, path string) error {
	p, err := f.localPath(path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(p)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp := TempPath(p)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a killed run
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, p); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(dir)
}

func (f localFiles) Place(path string, r io.Reader, perm fs.FileMode) error {
	p, err := f.localPath(path)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(p); err == nil { // fail before reading r
		return &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist}
	}
	dir := filepath.Dir(p)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_WRONLY, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) { // open(2), O_TMPFILE
		return fmt.Errorf("write %s: a file without a name: %w", path, errors.ErrUnsupported)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(file, r)
	if err == nil {
		err = errors.Join(file.Chmod(perm), file.Sync())
	}
	if err == nil {
		// A descriptor is linked by its name in /proc (open(2), O_TMPFILE).
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", file.Fd()), unix.AT_FDCWD, p, unix.AT_SYMLINK_FOLLOW)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(dir)
}

func (f localFiles) MkdirAll(path string, perm fs.FileMode) error {
	p, err := f.localPath(path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p, 0o755); err != nil {
		return err
	}
	return os.Chmod(p, perm)
}

func (f localFiles) RemoveAll(path string) error {
	p, err := f.localPath(path)
	if err != nil {
		return err
	}
	if p == filepath.Clean(f.root) || isProtected(filepath.Clean(path)) {
		return fmt.Errorf("cannot remove %s: protected system folder", path)
	}
	info, err := os.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	parent, err := deviceOf(filepath.Dir(p))
	if err != nil {
		return err
	}
	return removeTree(p, info, parent)
}

// TempPath returns the path to which Write writes the content of path until it is complete, and at
// which Symlink creates its link. The name is always the same, so that the next run overwrites the file that a killed run left, and
// reset finds it.
func TempPath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".plinth-tmp")
}

// isProtected reports whether path, which must be clean, is a top-level folder of Linux systems.
func isProtected(path string) bool {
	switch path {
	case "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var":
		return true
	}
	return false
}

// removeTree removes p and everything below it, but nothing on another device than dev. A mount
// below p is an error that names the mount point.
func removeTree(p string, info fs.FileInfo, dev uint64) error {
	if !info.IsDir() {
		return os.Remove(p)
	}
	if d, err := deviceOf(p); err != nil {
		return err
	} else if d != dev {
		return fmt.Errorf("%s is a mount point: unmount it first", p)
	}
	entries, err := os.ReadDir(p)
	if err != nil {
		return err
	}
	for _, e := range entries {
		child, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := removeTree(filepath.Join(p, e.Name()), child, dev); err != nil {
			return err
		}
	}
	if err := os.Remove(p); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Owner returns the user and group that own the file that info describes. It returns root if info
// does not contain them.
func Owner(info fs.FileInfo) (uid, gid int) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid)
	}
	return 0, 0
}

// deviceOf returns the number of the device that holds p.
func deviceOf(p string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return 0, &fs.PathError{Op: "lstat", Path: p, Err: err}
	}
	return st.Dev, nil
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
