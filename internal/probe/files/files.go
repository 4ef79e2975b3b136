// Package files owns reading a host's small files where a missing one is an
// answer, not an error. It refuses to know what the files mean.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Reader is what is needed of a host.
type Reader interface {
	ReadFile(path string) ([]byte, error)
	Lstat(path string) (fs.FileInfo, error)
	ReadDir(path string) ([]fs.DirEntry, error)
}

// Files are those of one host.
type Files struct{ Reader }

// Parse parses a file that must be there.
func Parse[T any](f Files, path string, parse func([]byte) (T, error)) (T, error) {
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

// Raw is a file's content; nil when it cannot be read.
func (f Files) Raw(path string) []byte {
	b, err := f.ReadFile(path)
	if err != nil {
		return nil
	}
	return b
}

// Text is a file's content, trimmed; "" when it cannot be read.
func (f Files) Text(path string) string { return strings.TrimSpace(string(f.Raw(path))) }

// Exists reports whether something is at path, be it a link that leads nowhere.
func (f Files) Exists(path string) bool {
	_, err := f.Lstat(path)
	return err == nil
}

// Missing reports whether err says that a file is not there.
func Missing(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }
