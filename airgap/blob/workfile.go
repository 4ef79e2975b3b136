package blob

import (
	"errors"
	"os"
)

// WorkFile makes a file in dir that has no name any more: nothing is left of it
// whatever happens, and no memory is spent on what is written to it.
func WorkFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".plinth-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
