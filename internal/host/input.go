package host

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// shellPipes are the folders in which a shell names its pipes: <(command) is /dev/fd/63.
var shellPipes = []string{"/dev/fd", "/proc/self/fd"}

// errPipe is the cause of a name that is refused because to open it could take for ever.
var errPipe = errors.New("it is a pipe or a socket, not a file")

// OpenInput opens a file that the user named, to read it. It refuses a pipe in a folder, and a socket: to
// open a pipe without a writer would take for ever. A pipe of the shell is allowed. The error does not
// name the file.
func OpenInput(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	isPipe := info.Mode().Type()&fs.ModeNamedPipe != 0 && path != "/dev/stdin" && !slices.Contains(shellPipes, filepath.Dir(path))
	if isPipe || info.Mode().Type()&fs.ModeSocket != 0 {
		return nil, errPipe
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	return file, nil
}

// ReadInput returns up to limit bytes of a file of OpenInput. It stops reading from a pipe when ctx is
// done, and then returns the error of ctx. Other errors do not name the file.
func ReadInput(ctx context.Context, file *os.File, limit int64) ([]byte, error) {
	// Only a pipe has a deadline; no other file needs one.
	stop := context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	data, err := io.ReadAll(io.LimitReader(file, limit))
	var named *os.PathError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		err = ctx.Err()
	case errors.As(err, &named):
		err = named.Err
	}
	return data, err
}
