package supportbundle

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Limits of what Read accepts.
const (
	maxReadFiles     = 10_000
	maxReadFileBytes = 32 << 20 // of one file; the collectors write less
)

// Read calls visit with the path and the content of each file in an archive that a Writer has written, without the folder
// in which all are. The archive may come from a node that lies: files together have at most limit bytes, and paths have no
// "..". An error of visit ends it.
func Read(r io.Reader, limit int64, visit func(name string, content []byte) error) error {
	unpacked, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("cannot read the support bundle: %w", err)
	}
	left := limit
	archive := tar.NewReader(unpacked)
	for files := 0; ; files++ {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read the support bundle: %w", err)
		}
		_, name, ok := strings.Cut(header.Name, "/")
		switch {
		case header.Typeflag != tar.TypeReg || !ok || name == "" || path.Clean("/"+name) != "/"+name:
			return errors.New("cannot read the support bundle: it has an entry that is not a file below a folder")
		case header.Size > min(left, maxReadFileBytes) || files >= maxReadFiles:
			return fmt.Errorf("cannot read the support bundle: it has more than %d bytes or %d files, or a file of more than %d bytes",
				limit, maxReadFiles, maxReadFileBytes)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return fmt.Errorf("cannot read the support bundle: %w", err)
		}
		left -= header.Size
		if err := visit(name, content); err != nil {
			return err
		}
	}
}
