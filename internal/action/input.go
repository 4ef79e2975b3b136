package action

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ReadInput returns the content of a file that the user named. The file may be a
// pipe; the path "-" means in. A file of more than limit bytes is an error.
func ReadInput(in io.Reader, path string, limit int64) ([]byte, error) {
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, errors.Unwrap(err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	raw, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	if err != nil {
		return nil, err
	}
	return raw, nil
}
