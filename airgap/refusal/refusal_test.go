package refusal

import (
	"context"
	"io/fs"
	"strings"
	"testing"

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
