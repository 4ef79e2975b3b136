package blob

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/limit"
)

// LayoutFile is the content of the file oci-layout.
const LayoutFile = `{"imageLayoutVersion":"1.0.0"}`

// Folder is a directory in OCI image layout.
type Folder struct{ dir string }

var _ Source = Folder{}

// OpenFolder returns the OCI image layout in dir, which must contain an index.
func OpenFolder(dir string) (Folder, error) {
	f := Folder{dir}
	_, err := f.Index()
	return f, err
}

// CreateFolder returns the OCI image layout in dir. If dir is not a layout yet, it
// creates one with an empty index. A dir with another index.json is an error, which
// changes nothing.
func CreateFolder(dir string) (Folder, error) {
	f := Folder{dir}
	index, err := f.Index()
	switch {
	case err == nil && index.SchemaVersion != 2:
		return f, fmt.Errorf("%s is not an OCI image index", filepath.Join(dir, "index.json"))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return f, err
	}
	missing := err != nil
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil || !missing {
		return f, err
	}
	err = WriteFile(filepath.Join(dir, "oci-layout"), func(w io.Writer) error {
		_, err := io.WriteString(w, LayoutFile)
		return err
	})
	if err == nil {
		err = f.SetIndex(ocispec.Index{})
	}
	return f, err
}

// Dir returns the folder's path.
func (f Folder) Dir() string { return f.dir }

// Index returns the parsed index.json.
func (f Folder) Index() (ocispec.Index, error) {
	var index ocispec.Index
	file, err := openFile(filepath.Join(f.dir, "index.json"))
	if err != nil {
		return index, err
	}
	defer func() { _ = file.Close() }()
	raw, err := io.ReadAll(io.LimitReader(file, limit.Document+1))
	if err != nil {
		return index, err
	}
	if len(raw) > limit.Document {
		return index, fmt.Errorf("%s has more than %d bytes", file.Name(), limit.Document)
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return index, fmt.Errorf("%s is not an OCI image index", file.Name())
	}
	return index, nil
}

// SetIndex replaces index.json.
func (f Folder) SetIndex(index ocispec.Index) error {
	index.SchemaVersion, index.MediaType = 2, ocispec.MediaTypeImageIndex
	if index.Manifests == nil {
		index.Manifests = []ocispec.Descriptor{}
	}
	raw, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(f.dir, "index.json"), func(w io.Writer) error {
		_, err := w.Write(append(raw, '\n'))
		return err
	})
}

func (f Folder) blobPath(d digest.Digest) string {
	return filepath.Join(f.dir, "blobs", d.Algorithm().String(), d.Encoded())
}

// Open returns a verifying reader of a blob in the folder.
func (f Folder) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := CheckDescriptor(desc); err != nil {
		return nil, err
	}
	file, err := openFile(f.blobPath(desc.Digest))
	if err != nil {
		return nil, err
	}
	return NewReader(ctx, file, desc, f.dir), nil
}

// openFile opens a file, or the one to which a link leads. To open a pipe without a writer
// would take for ever.
func openFile(path string) (*os.File, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	}
	return os.Open(path)
}

// Has reports whether the folder contains a blob with the size in desc. It does
// not read the content.
func (f Folder) Has(desc ocispec.Descriptor) bool {
	st, err := os.Stat(f.blobPath(desc.Digest))
	return err == nil && st.Mode().IsRegular() && st.Size() == desc.Size
}

// Find returns the size in bytes of a blob of which only the digest is known, and
// whether the folder contains it.
func (f Folder) Find(d digest.Digest) (size int64, ok bool) {
	if CheckDescriptor(ocispec.Descriptor{Digest: d}) != nil {
		return 0, false
	}
	st, err := os.Stat(f.blobPath(d))
	if err != nil || !st.Mode().IsRegular() {
		return 0, false
	}
	return st.Size(), true
}

// Remove removes a blob from the folder.
func (f Folder) Remove(d digest.Digest) error { return os.Remove(f.blobPath(d)) }

// IsEmpty reports whether the folder contains no bytes of any blob, partially
// fetched blobs included.
func (f Folder) IsEmpty() bool {
	entries, err := os.ReadDir(filepath.Join(f.dir, "blobs", "sha256"))
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Size() > 0 {
			return false
		}
	}
	return err == nil
}

// Put stores a blob unless the folder already has it. open is called only if it
// does not; its content is verified before the file gets its final name.
func (f Folder) Put(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	if err := CheckDescriptor(desc); err != nil || f.Has(desc) {
		return err
	}
	src, err := open()
	if err != nil {
		return err
	}
	r := NewReader(ctx, src, desc, "its source")
	defer func() { _ = r.Close() }()
	return WriteFile(f.blobPath(desc.Digest), func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// PartPath returns the path of the file for a partially fetched blob. PublishPart
// makes it a blob of the folder.
func (f Folder) PartPath(desc ocispec.Descriptor) string {
	return filepath.Join(f.dir, "blobs", "sha256", ".part-"+desc.Digest.Encoded())
}

// PublishPart renames the file at PartPath to its final name. The caller must have
// verified and synced it.
func (f Folder) PublishPart(desc ocispec.Descriptor) error {
	return publishFile(f.PartPath(desc), f.blobPath(desc.Digest))
}

// Add stores the content that write writes, and returns its descriptor with the media type mediaType.
func (f Folder) Add(mediaType string, write func(io.Writer) error) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType}
	spool := filepath.Join(f.dir, "blobs", "sha256")
	tmp, err := writeTemp(spool, 0o644, func(w io.Writer) error {
		sum, n := digest.SHA256.Digester(), &byteCounter{}
		err := write(io.MultiWriter(w, sum.Hash(), n))
		desc.Digest, desc.Size = sum.Digest(), n.n
		return err
	})
	if err != nil {
		return desc, err
	}
	return desc, publishFile(tmp, f.blobPath(desc.Digest))
}

// byteCounter counts the bytes written to it.
type byteCounter struct{ n int64 }

func (c *byteCounter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// WriteFile writes a file atomically (mode 0644, synced to disk): after a crash or
// an error, path has its old content.
func WriteFile(path string, write func(io.Writer) error) error {
	return writeFile(path, 0o644, write)
}

// WriteExecutable is like WriteFile, with mode 0755.
func WriteExecutable(path string, write func(io.Writer) error) error {
	return writeFile(path, 0o755, write)
}

func writeFile(path string, mode fs.FileMode, write func(io.Writer) error) error {
	tmp, err := writeTemp(filepath.Dir(path), mode, write)
	if err != nil {
		return err
	}
	return publishFile(tmp, path)
}

// writeTemp writes a temporary file in dir and returns its path. Where the file
// system supports O_TMPFILE, the file has no name until it is complete, so a
// killed run leaves nothing behind.
func writeTemp(dir string, mode fs.FileMode, write func(io.Writer) error) (name string, err error) {
	file, err := openTmpfile(dir)
	nameless := err == nil
	if errors.Is(err, errNoTmpfile) {
		file, err = os.CreateTemp(dir, tempPattern)
	}
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err != nil && !nameless {
			_ = os.Remove(file.Name())
		}
	}()
	w := bufio.NewWriterSize(file, bufferSize)
	if err := write(w); err != nil {
		return "", err
	}
	if err := errors.Join(w.Flush(), file.Chmod(mode), file.Sync()); err != nil {
		return "", err
	}
	if nameless {
		return linkTmpfile(file, dir)
	}
	return file.Name(), nil
}

// publishFile renames the temporary file tmp to path and syncs the folder.
func publishFile(tmp, path string) error {
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}
