package airgap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
)

// Stream is the rest of a bundle that is read once and in order: the content of
// its images and host files, which follows the part that OpenStream has read.
type Stream struct {
	name      string
	entries   *format.TarReader
	nextEntry streamEntry // the entry whose content comes next; its name is empty at the end
	bundle    *Bundle
}

// streamEntry is the name and size of a tar entry.
type streamEntry struct {
	name string
	size int64
}

// OpenStream reads the beginning of a bundle and returns it as a thin bundle,
// together with the stream of the content that is still to come. For a thin
// bundle the stream is nil; a delta is refused. name identifies the origin in
// errors, which are problems with the exit code for a bad bundle.
func OpenStream(ctx context.Context, r io.Reader, name string) (*Bundle, *Stream, error) {
	s := &Stream{name: name, entries: format.NewTarReader(r)}
	head, err := s.readHead()
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		return nil, nil, format.OpenError(name, err, s.entries.FirstBlock())
	}
	if s.bundle, err = OpenAt(ctx, bytes.NewReader(head), int64(len(head)), name); err != nil {
		return nil, nil, err
	}
	if s.nextEntry.name == "" {
		return s.bundle, nil, nil
	}
	return s.bundle, s, nil
}

// readHead returns everything that precedes the first layer of an image or host
// file, followed by the end blocks of a bundle.
func (s *Stream) readHead() ([]byte, error) {
	var head bytes.Buffer
	left := limit.Budget(limit.Head)
	declared := headContents{map[digest.Digest]ocispec.Descriptor{}, map[digest.Digest]bool{}, map[digest.Digest]bool{}}
	for {
		name, size, header, err := s.entries.Next()
		if err != nil {
			return nil, err
		}
		if d, ok := format.ParseBlobEntry(name); name == "" || ok && declared.contentBlobs[d] {
			s.nextEntry = streamEntry{name, size}
			head.Write(format.EndBlocks())
			return head.Bytes(), declared.checkComplete()
		}
		if name == format.DeltaEntry {
			return nil, errors.New("it is a delta, which cannot be read from a pipe: save it to a file first")
		}
		if size > limit.Document {
			return nil, fmt.Errorf("its %s has %d bytes, more than the maximum of %d for such a document", name, size, limit.Document)
		}
		if !left.Take(int64(len(header)) + size + format.Padding(size)) {
			return nil, fmt.Errorf("it has more than %d bytes before the content of its images", limit.Head)
		}
		head.Write(header)
		begin := head.Len()
		if _, err := io.Copy(&head, s.entries.Content()); err != nil {
			return nil, err
		}
		declared.addEntry(name, head.Bytes()[begin:])
		head.Write(make([]byte, format.Padding(size)))
	}
}

// headContents is what the beginning of a bundle declares about the rest. It is
// not verified: it is used only to find where the beginning ends.
type headContents struct {
	manifests    map[digest.Digest]ocispec.Descriptor
	contentBlobs map[digest.Digest]bool // layers of images and host files
	expected     map[digest.Digest]bool // all other referenced blobs; true until the blob was read
}

// checkComplete returns an error if referenced parts are missing before the content blobs.
func (c headContents) checkComplete() error {
	n := 0
	for _, due := range c.expected {
		if due {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d parts are missing at the beginning of the bundle: an older plinth built it (then give it as a file), or it is damaged", n)
}

// addEntry records an entry with its content.
func (c headContents) addEntry(name string, data []byte) {
	if name == format.IndexEntry {
		var index ocispec.Index
		if limit.UnmarshalJSON(data, &index) == nil {
			for _, m := range index.Manifests {
				c.manifests[m.Digest] = m
			}
		}
	}
	d, ok := format.ParseBlobEntry(name)
	if !ok {
		return
	}
	c.expected[d] = false
	desc, ok := c.manifests[d]
	if !ok {
		return
	}
	item, err := format.ParseItem(desc, data)
	if err != nil {
		return
	}
	for _, b := range item.ContentBlobs() {
		c.contentBlobs[b.Digest] = true
	}
	for _, b := range item.Blobs() {
		if _, was := c.expected[b.Digest]; !was && !c.contentBlobs[b.Digest] {
			c.expected[b.Digest] = true
		}
	}
}

// SaveBlobs reads the stream to its end, verifies all of it, and saves the blobs
// in want that are not yet in folder. Blobs that were received completely before
// a failure stay in folder. progress may be nil; otherwise it is called with the
// bytes received. Errors are problems with the exit code for a bad bundle.
func (s *Stream) SaveBlobs(ctx context.Context, folder blob.Folder, want []ocispec.Descriptor, progress func(done, total int64)) error {
	err := s.copyBlobs(ctx, folder, want, progress)
	if err == nil || ctx.Err() != nil {
		return errors.Join(ctx.Err())
	}
	hint := "the copy is damaged or was altered: compare the sha256sum of the file that was sent with the published one"
	switch {
	case errors.Is(err, format.ErrTruncated):
		hint = "the sender stopped too early: send the bundle again; the parts that were received completely are kept"
	case errors.Is(err, errSave):
		hint = "free space in " + folder.Dir() + "; then send the bundle again"
	}
	var p *problem.Problem
	if errors.As(err, &p) {
		err = p.Err
	}
	return problem.New(problem.ExitBundle, "read the bundle from "+s.name, err, hint)
}

// IsPermanentStreamError reports whether reading the same stream again would fail the same way.
func IsPermanentStreamError(err error) bool { return !errors.Is(err, format.ErrTruncated) }

// errSave marks an error of the local disk.
var errSave = errors.New("cannot save a blob")

// copyBlobs implements SaveBlobs; its errors are not problems yet.
func (s *Stream) copyBlobs(ctx context.Context, folder blob.Folder, want []ocispec.Descriptor, progress func(done, total int64)) error {
	due, total := map[digest.Digest]ocispec.Descriptor{}, int64(0)
	for _, d := range s.bundle.Missing() {
		due[d.Digest] = d
		total += d.Size
	}
	wanted := map[digest.Digest]bool{}
	for _, d := range want {
		wanted[d.Digest] = true
	}
	counter := blob.NewProgress(total, progress)
	for s.nextEntry.name != "" {
		d, _ := format.ParseBlobEntry(s.nextEntry.name)
		desc, ok := due[d]
		switch {
		case !ok:
			return fmt.Errorf("the entry %q is not allowed here, or it appears twice", s.nextEntry.name)
		case desc.Size != s.nextEntry.size:
			return fmt.Errorf("blob %s has %d bytes instead of the declared %d", d, s.nextEntry.size, desc.Size)
		}
		delete(due, d)
		if err := s.copyBlob(ctx, folder, desc, wanted[d], counter); err != nil {
			return err
		}
		var err error
		if s.nextEntry.name, s.nextEntry.size, _, err = s.entries.Next(); err != nil {
			return err
		}
	}
	if len(due) > 0 {
		return fmt.Errorf("%d of its blobs are missing", len(due))
	}
	counter.Finish()
	return nil
}

// copyBlob reads and verifies the next blob, and saves it if it is wanted.
func (s *Stream) copyBlob(ctx context.Context, folder blob.Folder, desc ocispec.Descriptor, wanted bool, progress *blob.Progress) error {
	src := &entryReader{Reader: s.entries.Content(), progress: progress}
	if wanted && !folder.Has(desc) {
		err := folder.Put(ctx, desc, func() (io.ReadCloser, error) { return src, nil })
		var p *problem.Problem
		if err != nil && !errors.As(err, &p) && ctx.Err() == nil { // not an error of the stream
			err = fmt.Errorf("%w: %w", errSave, err)
		}
		return err
	}
	_, err := io.Copy(io.Discard, blob.NewReader(ctx, src, desc, s.name))
	return err
}

// entryReader reads one entry of the stream and counts its bytes.
type entryReader struct {
	io.Reader
	progress *blob.Progress
}

func (s *entryReader) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.progress.Add(n)
	return n, err
}

func (*entryReader) Close() error { return nil } // the stream stays open
