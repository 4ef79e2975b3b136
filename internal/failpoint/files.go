package failpoint

import (
	"bytes"
	"io"
	"io/fs"

	"github.com/plinthdev/plinth/internal/host"
)

// WrapFiles returns files with failpoints of verb at each write of the paths in objects,
// which maps a path to its object. For a nil Set it returns files itself.
func (s *Set) WrapFiles(verb string, files host.Files, objects map[string]string) host.Files {
	if s == nil {
		return files
	}
	return instrumentedFiles{files, s, verb, objects}
}

// instrumentedFiles reaches a failpoint in each phase of a write.
type instrumentedFiles struct {
	host.Files
	set     *Set
	verb    string
	objects map[string]string
}

func (w instrumentedFiles) Write(path string, r io.Reader, perm fs.FileMode) error {
	object, ok := w.objects[path]
	if !ok {
		return w.Files.Write(path, r, perm)
	}
	if err := w.set.Reach(w.verb, object, Write); err != nil {
		return err
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	half := len(content) / 2
	err = w.Files.Write(path, io.MultiReader(
		bytes.NewReader(content[:half]), w.reachReader(object, Torn),
		bytes.NewReader(content[half:]), w.reachReader(object, Temp)), perm)
	if err != nil {
		return err
	}
	return w.set.Reach(w.verb, object, Renamed)
}

// reachReader returns an empty reader that reaches the point object:phase when it is read.
func (w instrumentedFiles) reachReader(object string, phase Phase) io.Reader {
	return readerFunc(func([]byte) (int, error) {
		if err := w.set.Reach(w.verb, object, phase); err != nil {
			return 0, err
		}
		return 0, io.EOF
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
