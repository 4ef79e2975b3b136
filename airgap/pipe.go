package airgap

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/airgap/format"
)

// StandardInput is the path of this process's standard input.
const StandardInput = "/dev/stdin"

// IsPipe reports whether path is a pipe or a socket, which can be read only once.
func IsPipe(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) != 0
}

// OpenPipe opens a bundle that arrives through a pipe; see OpenStream. Reading
// stops when ctx is done or the bundle is closed.
func OpenPipe(ctx context.Context, path string) (*Bundle, *Stream, error) {
	// O_NONBLOCK: do not wait for a sender here; a blocked read can be canceled later.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENXIO) && path == StandardInput { // a socket, as a remote shell may provide
		file, err = os.Stdin, nil
	}
	if err != nil {
		return nil, nil, format.OpenError(path, err, nil)
	}
	context.AfterFunc(ctx, func() { _ = file.Close() })
	b, s, err := OpenStream(ctx, file, path)
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return b.WithCloser(file), s, nil
}
