package action

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/plinthdev/plinth/internal/node"
)

// CommandName returns how the user calls this program in the next command: "plinth" if the
// one on the PATH is this program, and otherwise calledBy, the name by which it was called.
// It is "" if that file was removed, as by a reset.
func CommandName(calledBy string) string {
	return commandName("/proc/self/exe", node.ProgramPath, calledBy)
}

// commandName is CommandName for the program self, with onPath as the plinth on the PATH.
func commandName(self, onPath, calledBy string) string {
	if same, err := sameProgram(self, onPath); err == nil && same {
		return "plinth"
	}
	if target, err := os.Readlink(self); err == nil && strings.HasSuffix(target, " (deleted)") { // the kernel's mark
		return ""
	}
	return calledBy
}

// sameProgram reports whether the executable installed is what an install by the executable self
// puts there: the same bytes, without an embedded bundle.
func sameProgram(self, installed string) (same bool, err error) {
	b, err := os.Open(installed)
	if err != nil {
		return false, err
	}
	if x, err := os.Stat(self); err == nil {
		if y, err := b.Stat(); err == nil && os.SameFile(x, y) { // with its embedded bundle
			return true, b.Close()
		}
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	a, err := openWithoutBundle(self)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	return equalContent(a, b)
}

// equalContent reports whether a and b have the same bytes.
func equalContent(a, b io.Reader) (bool, error) {
	const size = 1 << 20
	x, y := bufio.NewReaderSize(a, size), bufio.NewReaderSize(b, size)
	for {
		p, errX := x.Peek(size)
		q, errY := y.Peek(size)
		if errX != nil && errX != io.EOF || errY != nil && errY != io.EOF {
			return false, errors.Join(errX, errY)
		}
		if !bytes.Equal(p, q) || len(p) == 0 {
			return len(p) == 0 && len(q) == 0, nil
		}
		_, _ = x.Discard(len(p))
		_, _ = y.Discard(len(q))
	}
}
