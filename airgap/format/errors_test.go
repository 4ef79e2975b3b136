package format

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/problem"
)

// The message is tested here because tests may run as root, which can read any file.
func TestOpenError_NamesMissingPermission(t *testing.T) {
	err := OpenError("x", &fs.PathError{Op: "open", Path: "x", Err: fs.ErrPermission}, nil)
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(problem.Hint(err), "permissions") {
		t.Errorf("%v (hint %q)", err, problem.Hint(err))
	}
}

func TestOpenError_ReturnsContextError(t *testing.T) {
	if err := OpenError("x", context.Canceled, nil); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func TestOpenError_NamesInvalidPath(t *testing.T) {
	for name, c := range map[string]struct {
		path  string
		cause error
		want  string
	}{
		"link loop":      {"x", unix.ELOOP, "cannot open bundle x: its symbolic links form a loop"},
		"empty name":     {"", unix.ENOENT, "cannot open a bundle: the file name is empty"},
		"file as folder": {"x/y", unix.ENOTDIR, "cannot open bundle x/y: not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			err := OpenError(c.path, &fs.PathError{Op: "stat", Path: c.path, Err: c.cause}, nil)
			if err.Error() != c.want || strings.Contains(problem.Hint(err), "damaged") {
				t.Errorf("%v (hint %q), want %q", err, problem.Hint(err), c.want)
			}
		})
	}
}
