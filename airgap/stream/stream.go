// Package stream reads a bundle that can be read only once, such as from a pipe.
package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/refusal"
	"github.com/plinthdev/plinth/internal/problem"
)

// maxHeadSize is the maximum number of bytes that may precede the content of the
// images and host files. They are kept in memory.
const maxHead = 128 << 20

// Stream is the rest of a bundle that is read once and in order: the content of
// its images and host files, which follows the part that OpenStream has read.
type Stream struct {
	name   string
	tar    *format.Tar
	at     entry // the entry whose content comes next; its name is empty at the end
	bundle *airgap.Bundle
}

// streamEntry is the name and size of a tar entry.
type entry struct {
	name string
	size int64
}

// OpenStream reads the beginning of a bundle and returns it as a thin bundle,
// together with the stream of the content that is still to come. For a thin
// bundle the stream is nil; a delta is refused. name identifies the origin in
// errors, which are problems with the exit code for a bad bundle.
func Open(ctx context.Context, r io.Reader, name string) (*airgap.Bundle, *Stream, error) {
	s := &Stream{name: name, tar: format.NewTar(r)}
	head, err := s.head()
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		return nil, nil, refusal.Open(name, err, s.tar.Begun())
	}
	if s.bundle, err = airgap.OpenAt(ctx, bytes.NewReader(head), int64(len(head)), name); err != nil {
		return nil, nil, err
	}
	if s.at.name == "" {
		return s.bundle, nil, nil
	}
	return s.bundle, s, nil
}

// readHead returns everything that precedes the first layer of an image or host
// file, followed by the end blocks of a bundle.
func (s *Stream) head() ([]byte, error) {
	var head bytes.Buffer
	declared := contents{map[digest.Digest]ocispec.Descriptor{}, map[digest.Digest]bool{}, map[digest.Digest]bool{}}
	for {
		name, size, header, err := s.tar.Next()
		if err != nil {
			return nil, err
		}
		if d, ok := format.EntryDigest(name); name == "" || ok && declared.bulk[d] {
			s.at = entry{name, size}
			head.Write(format.End())
			return head.Bytes(), declared.complete()
		}
		if name == format.DeltaEntry {
			return nil, errors.New("it is a delta, which cannot be read from a pipe: save it to a file first")
		}
		if int64(head.Len())+size > maxHead {
			return nil, fmt.Errorf("it has more than %d bytes before the content of its images", maxHead)
		}
		head.Write(header)
		begin := head.Len()
		if _, err := io.Copy(&head, s.tar.Content()); err != nil {
			return nil, err
		}
		declared.at(name, head.Bytes()[begin:])
		head.Write(make([]byte, format.Padding(size)))
	}
}

// headContents is what the beginning of a bundle declares about the rest. It is
// not verified: it is used only to find where the beginning ends.
type contents struct {
	manifests map[digest.Digest]ocispec.Descriptor
	bulk      map[digest.Digest]bool // layers of images and host files
	due       map[digest.Digest]bool // all other referenced blobs; true until the blob was read
}

// checkComplete returns an error if referenced parts are missing before the content blobs.
func (c contents) complete() error {
	n := 0
	for _, due := range c.due {
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
func (c contents) at(name string, data []byte) {
	if name == format.IndexEntry {
		var index ocispec.Index
		if json.Unmarshal(data, &index) == nil {
			for _, m := range index.Manifests {
				c.manifests[m.Digest] = m
			}
		}
	}
	d, ok := format.EntryDigest(name)
	if !ok {
		return
	}
	c.due[d] = false
	item, err := format.ParseItem(c.manifests[d], data)
	if _, ok := c.manifests[d]; !ok || err != nil {
		return
	}
	for _, b := range item.Bulk() {
		c.bulk[b.Digest] = true
	}
	for _, b := range item.Blobs() {
		if _, was := c.due[b.Digest]; !was && !c.bulk[b.Digest] {
			c.due[b.Digest] = true
		}
	}
}

// SaveBlobs reads the stream to its end, verifies all of it, and saves the blobs
// in want that are not yet in folder. Blobs that were received completely before
// a failure stay in folder. progress may be nil; otherwise it is called with the
// bytes received. Errors are problems with the exit code for a bad bundle.
func (s *Stream) Blobs(ctx context.Context, folder blob.Folder, want []ocispec.Descriptor, progress func(done, total int64)) error {
	err := s.blobs(ctx, folder, want, progress)
	if err == nil || ctx.Err() != nil {
		return errors.Join(ctx.Err())
	}
	hint := "the copy is damaged or was altered: compare the sha256sum of the file that was sent with the published one"
	switch {
	case errors.Is(err, format.ErrTruncated):
		hint = "the sender stopped too early: send the bundle again; the parts that were received completely are kept"
	case errors.Is(err, errKeep):
		hint = "free space in " + folder.Dir() + "; then send the bundle again"
	}
	var p *problem.Problem
	if errors.As(err, &p) {
		err = p.Err
	}
	return problem.New(problem.ExitBundle, "read the bundle from "+s.name, err, hint)
}

// IsPermanentStreamError reports whether reading the same stream again would fail the same way.
func Hopeless(err error) bool { return !errors.Is(err, format.ErrTruncated) }

// errSave marks an error of the local disk.
var errKeep = errors.New("cannot save a blob")

// copyBlobs implements SaveBlobs; its errors are not problems yet.
func (s *Stream) blobs(ctx context.Context, folder blob.Folder, want []ocispec.Descriptor, progress func(done, total int64)) error {
	due, total := map[digest.Digest]ocispec.Descriptor{}, int64(0)
	for _, d := range s.bundle.Absent() {
		due[d.Digest] = d
		total += d.Size
	}
	wanted := map[digest.Digest]bool{}
	for _, d := range want {
		wanted[d.Digest] = true
	}
	counter := blob.NewMeter(total, progress)
	for s.at.name != "" {
		d, _ := format.EntryDigest(s.at.name)
		desc, ok := due[d]
		switch {
		case !ok:
			return fmt.Errorf("the entry %q is not allowed here, or it appears twice", s.at.name)
		case desc.Size != s.at.size:
			return fmt.Errorf("blob %s has %d bytes instead of the declared %d", d, s.at.size, desc.Size)
		}
		delete(due, d)
		if err := s.one(ctx, folder, desc, wanted[d], counter); err != nil {
			return err
		}
		var err error
		if s.at.name, s.at.size, _, err = s.tar.Next(); err != nil {
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
func (s *Stream) one(ctx context.Context, folder blob.Folder, desc ocispec.Descriptor, wanted bool, progress *blob.Meter) error {
	src := &source{Reader: s.tar.Content(), meter: progress}
	if wanted && !folder.Has(desc) {
		err := folder.Put(ctx, desc, func() (io.ReadCloser, error) { return src, nil })
		var p *problem.Problem
		if err != nil && !errors.As(err, &p) && ctx.Err() == nil { // not an error of the stream
			err = fmt.Errorf("%w: %w", errKeep, err)
		}
		return err
	}
	_, err := io.Copy(io.Discard, blob.NewReader(ctx, src, desc, s.name))
	return err
}

// entryReader reads one entry of the stream and counts its bytes.
type source struct {
	io.Reader
	meter *blob.Meter
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.meter.Add(n)
	return n, err
}

func (*source) Close() error { return nil } // the stream stays open
