package action

import (
	"errors"
	"io"
	"os"

	"github.com/plinthdev/plinth/airgap/embed"
	"github.com/plinthdev/plinth/internal/problem"
)

// openWithoutBundle opens the executable at path and returns its content without
// an embedded bundle. An embedded key stays in it.
func openWithoutBundle(path string) (io.ReadCloser, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	s, err := embed.Open(file, st.Size())
	if err != nil {
		return nil, problem.New(problem.ExitBundle, "read the data embedded in this executable", errors.Join(err, file.Close()), "the copy is damaged: download the executable again")
	}
	if s.Bundle == nil {
		return file, nil
	}
	s.Bundle = nil
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(errors.Join(embed.Write(w, s), file.Close())) }()
	return r, nil
}

// isRunningProgram reports whether path leads to the file of this process.
func isRunningProgram(path string) bool {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return false
	}
	other, err := os.Stat(path)
	return err == nil && os.SameFile(self, other)
}
