package action

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

// ErrReadableByOthers is the cause of a secret that is not one.
var ErrReadableByOthers = errors.New("other users can read it")

// ReadInput returns the content of a file that the user named, as host.OpenInput opens it;
// the path "-" means in. A file of more than limit bytes is an error.
func ReadInput(in io.Reader, path string, limit int64) ([]byte, error) {
	return readInput(in, path, limit, func(fs.FileInfo) error { return nil })
}

// ReadSecret is ReadInput for a file with a secret: one that other users can read is refused.
func ReadSecret(in io.Reader, path string, limit int64) ([]byte, error) {
	return readInput(in, path, limit, func(info fs.FileInfo) error {
		if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 { // a pipe of the shell is not for others
			return ErrReadableByOthers
		}
		return nil
	})
}

// readInput is ReadInput for a file that check accepts.
func readInput(in io.Reader, path string, limit int64, check func(fs.FileInfo) error) ([]byte, error) {
	if path != "-" {
		file, err := host.OpenInput(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		info, err := file.Stat()
		if err == nil {
			err = check(info)
		}
		if err != nil {
			return nil, problem.PathCause(err)
		}
		in = file
	}
	raw, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	if err != nil {
		return nil, problem.PathCause(err)
	}
	return raw, nil
}
