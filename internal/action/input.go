package action

import (
	"fmt"
	"io"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

// ReadInput returns the content of a file that the user named, as host.OpenInput opens it;
// the path "-" means in. A file of more than limit bytes is an error.
func ReadInput(in io.Reader, path string, limit int64) ([]byte, error) {
	if path != "-" {
		file, err := host.OpenInput(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	raw, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	if err != nil {
		return nil, problem.PathCause(err)
	}
	return raw, nil
}
