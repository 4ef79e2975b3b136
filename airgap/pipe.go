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
	file, err := openPipe(ctx, path)
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

// openPipe opens a pipe. It waits for the sender of a named pipe, until ctx is done: before it has opened the pipe, a read
// returns the end of the file. The sender of another pipe, such as /dev/stdin, has opened it before this process started,
// and may have ended since.
func openPipe(ctx context.Context, path string) (*os.File, error) {
	if st, err := os.Lstat(path); err != nil || st.Mode()&fs.ModeNamedPipe == 0 {
		return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	type opened struct {
		file *os.File
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		file, err := os.OpenFile(path, os.O_RDONLY, 0)
		if err == nil && ctx.Err() != nil {
			_ = file.Close()
		}
		done <- opened{file, err}
	}()
	select {
	case o := <-done:
		return o.file, o.err
	case <-ctx.Done():
		if sender, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil { // it ends the wait
			_ = sender.Close()
		}
		return nil, ctx.Err()
	}
}
