package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// FileReader contains the methods of a host that Files needs.
type FileReader interface {
	ReadFile(path string) ([]byte, error)
	Lstat(path string) (fs.FileInfo, error)
	ReadDir(path string) ([]fs.DirEntry, error)
}

// Files reads the files of one host.
type Files struct{ FileReader }

// parseFile reads the file at path, which must exist, and returns what parse
// makes of it. Errors of parse are prefixed with the path.
func parseFile[T any](f Files, path string, parse func([]byte) (T, error)) (T, error) {
	text, err := f.ReadFile(path)
	if err != nil {
		var none T
		return none, err
	}
	v, err := parse(text)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return v, err
}

// ReadBytes returns the content of the file at path, or nil if it cannot be
// read.
func (f Files) ReadBytes(path string) []byte {
	b, err := f.ReadFile(path)
	if err != nil {
		return nil
	}
	return b
}

// ReadText returns the content of the file at path without surrounding white
// space, or "" if it cannot be read.
func (f Files) ReadText(path string) string { return strings.TrimSpace(string(f.ReadBytes(path))) }

// Exists reports whether path exists, even as a symbolic link without a target.
func (f Files) Exists(path string) bool {
	_, err := f.Lstat(path)
	return err == nil
}

// isMissing reports whether err means that a file does not exist.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }
