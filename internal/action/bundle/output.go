package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/embed"
	"github.com/plinthdev/plinth/internal/problem"
)

// CheckOutputFile verifies that out is a path at which a command can write its file:
// not an output format, not a folder or a device, in a writable folder, and not the
// same file as one of the inputs. An existing file is replaced later. Empty inputs are
// ignored. Errors are usage problems.
func CheckOutputFile(out string, inputs ...string) error {
	doing := "write " + out
	if out == "json" || out == "text" {
		return problem.Newf(problem.ExitUsage, doing, "to choose the output format, use --output "+out+"; to write a file of that name, use ./"+out, "%s is an output format", out)
	}
	switch info, err := os.Stat(out); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return problem.New(problem.ExitUsage, doing, systemCause(err), "name a writable file")
	case info.IsDir():
		return problem.Newf(problem.ExitUsage, doing, "name a file in it", "%s is a folder", out)
	case !info.Mode().IsRegular():
		return problem.Newf(problem.ExitUsage, doing, "name a file in a writable folder", "it is a device, a pipe or a socket, not a file")
	}
	if err := checkNotInput(out, inputs...); err != nil {
		return err
	}
	return checkWritableDir(doing, filepath.Dir(out))
}

// checkNotInput returns a usage problem if out is the same file as one of the inputs,
// also through a link.
func checkNotInput(out string, inputs ...string) error {
	existing, err := os.Stat(out)
	if err != nil {
		return nil // a file that does not exist cannot be an input
	}
	for _, in := range inputs {
		if info, err := os.Stat(in); err == nil && os.SameFile(info, existing) {
			return problem.Newf(problem.ExitUsage, "write "+out, "name another file with --output-file", "it is the same file as the input %s", in)
		}
	}
	return nil
}

// checkWritableDir returns a usage problem if no file can be created in dir.
func checkWritableDir(doing, dir string) error {
	const hint = "name a path in an existing folder that you can write to"
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return problem.Newf(problem.ExitUsage, doing, hint, "folder %s does not exist", dir)
	case err == nil && !info.IsDir():
		return problem.Newf(problem.ExitUsage, doing, hint, "%s is not a folder", dir)
	case err == nil:
		var file *os.File
		if file, err = blob.TempFile(dir); err == nil {
			err = file.Close()
		}
	}
	if err != nil {
		return problem.Newf(problem.ExitUsage, doing, hint, "no file can be created in %s: %w", dir, systemCause(err))
	}
	return nil
}

// CheckOutputFolder verifies that the files names can be written to the folder out,
// which need not exist, and that none of them is one of the inputs. Errors are usage
// problems.
func CheckOutputFolder(out string, names []string, inputs ...string) error {
	doing := "write to the folder " + out
	dir := filepath.Clean(out)
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err := checkWritableDir(doing, dir); err != nil {
		return err
	}
	for _, name := range names {
		if err := checkNotInput(filepath.Join(out, name), inputs...); err != nil {
			return err
		}
	}
	return nil
}

// systemCause returns the system error in err, without the call and the path.
func systemCause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// WriteExecutable writes an executable with an embedded key or bundle to path. The
// file appears complete or not at all, also if ctx ends.
func WriteExecutable(ctx context.Context, path string, s embed.Embedded) error {
	err := blob.WriteExecutable(path, func(w io.Writer) error { return embed.Write(contextWriter{ctx, w}, s) })
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("write %s: %w", path, context.Cause(ctx))
	}
	return err
}

// contextWriter is a writer that fails once ctx has ended.
type contextWriter struct {
	ctx context.Context
	io.Writer
}

// Write writes p, or returns the cause of the end of ctx.
func (u contextWriter) Write(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Writer.Write(p)
}
