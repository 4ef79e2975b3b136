package stream

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/refusal"
)

// StandardInput is the path of this process's standard input.
const StandardInput = "/dev/stdin"

// IsPipe reports whether what is at path can be read once only.
func IsPipe(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) != 0
}

// OpenPipe opens the bundle that comes through a pipe, as Open does. Nothing is
// read any more once ctx is done or the bundle is closed.
func OpenPipe(ctx context.Context, path string) (*airgap.Bundle, *Stream, error) {
	// Without waiting for a sender: a read that waits can be given up then.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENXIO) && path == StandardInput { // a socket, as a shell far away may give it
		file, err = os.Stdin, nil
	}
	if err != nil {
		return nil, nil, refusal.Open(path, err, nil)
	}
	context.AfterFunc(ctx, func() { _ = file.Close() })
	b, s, err := Open(ctx, file, path)
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return b.Owning(file), s, nil
}
