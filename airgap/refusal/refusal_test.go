package refusal

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/problem"
)

// Root, which tests may run as, can read any file: the wording is tested here.
func TestAFileThatMayNotBeReadSaysSo(t *testing.T) {
	err := Open("x", &fs.PathError{Op: "open", Path: "x", Err: fs.ErrPermission}, nil)
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(problem.Hint(err), "permissions") {
		t.Errorf("%v (hint %q)", err, problem.Hint(err))
	}
}

func TestAnInterruptIsNotADamagedFile(t *testing.T) {
	if err := Open("x", context.Canceled, nil); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func TestAPathThatLeadsNowhereIsNotADamagedFile(t *testing.T) {
	for want, err := range map[string]error{
		"in a circle":               Open("x", &fs.PathError{Op: "stat", Path: "x", Err: unix.ELOOP}, nil),
		"name of the file is empty": Open("", &fs.PathError{Op: "stat", Path: "", Err: unix.ENOENT}, nil),
		"not a directory":           Open("x/y", &fs.PathError{Op: "stat", Path: "x/y", Err: unix.ENOTDIR}, nil),
	} {
		if !strings.Contains(err.Error(), want) || strings.Contains(problem.Hint(err), "damaged") {
			t.Errorf("%v (hint %q), want %q", err, problem.Hint(err), want)
		}
	}
}
