// Package output owns the judgement of what a vendor's verb is to write, before
// its work: what is written takes the place of what is there. It refuses
// devices, folders for files, places where no file can be made, and the verb's
// own inputs by whatever name.
package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/seal"
	"github.com/plinthdev/plinth/internal/problem"
)

// File refuses what cannot be meant as the file to write. Empty names among
// the inputs are none. Errors are problems with the exit code for usage.
func File(out string, inputs ...string) error {
	doing := "write " + out
	if out == "json" || out == "text" {
		return problem.Newf(problem.ExitUsage, doing, "for the form of the answer put --output "+out+" before the verb; to write a file of that name, write ./"+out, "%s is hardly to be the file's name", out)
	}
	switch info, err := os.Stat(out); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return problem.New(problem.ExitUsage, doing, cause(err), "name a file that you may write")
	case info.IsDir():
		return problem.Newf(problem.ExitUsage, doing, "name a file in it", "%s is a folder", out)
	case !info.Mode().IsRegular():
		return problem.Newf(problem.ExitUsage, doing, "name a file in a folder that you may write to", "it is a device, a pipe or a socket, not a file")
	}
	if err := distinct(out, inputs...); err != nil {
		return err
	}
	return roomy(doing, filepath.Dir(out))
}

// distinct refuses an output that is one of the inputs, by whatever name.
func distinct(out string, inputs ...string) error {
	there, err := os.Stat(out)
	if err != nil {
		return nil // what is not there is nobody's input
	}
	for _, in := range inputs {
		if info, err := os.Stat(in); err == nil && os.SameFile(info, there) {
			return problem.Newf(problem.ExitUsage, "write "+out, "name another file with -o", "it is the same file as %s, which is read for it", in)
		}
	}
	return nil
}

// roomy refuses a folder that no file can be made in.
func roomy(doing, dir string) error {
	const hint = "name a place in a folder that exists and that you may write to"
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return problem.Newf(problem.ExitUsage, doing, hint, "there is no folder %s", dir)
	case err == nil && !info.IsDir():
		return problem.Newf(problem.ExitUsage, doing, hint, "%s is not a folder", dir)
	case err == nil:
		var file *os.File
		if file, err = blob.WorkFile(dir); err == nil {
			err = file.Close()
		}
	}
	if err != nil {
		return problem.Newf(problem.ExitUsage, doing, hint, "no file can be made in %s: %w", dir, cause(err))
	}
	return nil
}

// Folder is File for the files of those names in a folder, which is made where
// there is none.
func Folder(out string, names []string, inputs ...string) error {
	doing := "write to the folder " + out
	dir := filepath.Clean(out)
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err := roomy(doing, dir); err != nil {
		return err
	}
	for _, name := range names {
		if err := distinct(filepath.Join(out, name), inputs...); err != nil {
			return err
		}
	}
	return nil
}

// cause is what the system said, without the call and the name.
func cause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// Executable writes a sealed executable, which appears complete or, also when
// ctx ends, not at all.
func Executable(ctx context.Context, path string, s seal.Sealed) error {
	err := blob.WriteExecutable(path, func(w io.Writer) error { return seal.Write(until{ctx, w}, s) })
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("write %s: %w", path, context.Cause(ctx))
	}
	return err
}

// until is a writer that takes nothing any more once ctx has ended.
type until struct {
	ctx context.Context
	io.Writer
}

// Write passes p on.
func (u until) Write(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Writer.Write(p)
}
