// Package stream owns a bundle that comes once and in one direction, such as
// through a pipe. Its beginning, which says all that the bundle is, opens like
// a thin bundle; the content behind it is proved while it comes and kept blob by
// blob. It refuses deltas and to keep the stream itself.
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

// maxHead is the most bytes that a bundle may have before the content of its
// images and host files: they are kept in memory.
const maxHead = 128 << 20

// Stream is what is still to come of a bundle.
type Stream struct {
	name   string
	tar    *format.Tar
	at     entry // whose content comes next; without a name at the end
	bundle *airgap.Bundle
}

type entry struct {
	name string
	size int64
}

// Open reads the beginning of a bundle and gives it as a thin bundle, with the
// stream of what that leaves out. Of a bundle that is thin there is no stream.
// name stands for the origin in errors, which are problems with the exit code
// for a bad bundle.
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

// head gives all that stands before the first layer of an image or host file,
// ended as a bundle ends.
func (s *Stream) head() ([]byte, error) {
	var head bytes.Buffer
	look := contents{map[digest.Digest]ocispec.Descriptor{}, map[digest.Digest]bool{}, map[digest.Digest]bool{}}
	for {
		name, size, header, err := s.tar.Next()
		if err != nil {
			return nil, err
		}
		if d, ok := format.EntryDigest(name); name == "" || ok && look.bulk[d] {
			s.at = entry{name, size}
			head.Write(format.End())
			return head.Bytes(), look.complete()
		}
		if name == format.DeltaEntry {
			return nil, errors.New("it is a delta, which is read more than once: put it into a file first")
		}
		if int64(head.Len())+size > maxHead {
			return nil, fmt.Errorf("it has more than %d bytes before the content of its images", maxHead)
		}
		head.Write(header)
		begin := head.Len()
		if _, err := io.Copy(&head, s.tar.Content()); err != nil {
			return nil, err
		}
		look.at(name, head.Bytes()[begin:])
		head.Write(make([]byte, format.Padding(size)))
	}
}

// contents is what the beginning tells of the rest. It is not proved: all that
// follows from it is where the beginning ends.
type contents struct {
	manifests map[digest.Digest]ocispec.Descriptor
	bulk      map[digest.Digest]bool // layers of images and host files
	due       map[digest.Digest]bool // all else that is named, true until it was there
}

// complete reports parts that do not stand before the bulk.
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
	return fmt.Errorf("%d of the parts that stand at the beginning of a bundle are not there: an older plinth built it, which needs a file, or it is damaged", n)
}

// at takes in an entry.
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

// Blobs reads the stream to its end, proves all of it, and keeps of it those
// blobs that are wanted and that folder lacks. What came whole before a failure
// stays there. progress, if not nil, is told the bytes that came. Errors are
// problems with the exit code for a bad bundle.
func (s *Stream) Blobs(ctx context.Context, folder blob.Folder, want []ocispec.Descriptor, progress func(done, total int64)) error {
	err := s.blobs(ctx, folder, want, progress)
	if err == nil || ctx.Err() != nil {
		return errors.Join(ctx.Err())
	}
	hint := "the copy is damaged or was altered: compare the sha256sum of the file that was sent with the published one"
	switch {
	case errors.Is(err, format.ErrTruncated):
		hint = "its sender broke off: send it again; what has come whole is kept"
	case errors.Is(err, errKeep):
		hint = "make room in " + folder.Dir() + "; then send it again"
	}
	var p *problem.Problem
	if errors.As(err, &p) {
		err = p.Err
	}
	return problem.New(problem.ExitBundle, "take the bundle from "+s.name, err, hint)
}

// Hopeless reports an error after which the same stream would fail the same way.
func Hopeless(err error) bool { return !errors.Is(err, format.ErrTruncated) }

// errKeep is a disk that does not take what comes.
var errKeep = errors.New("it cannot be kept")

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
	meter := blob.NewMeter(total, progress)
	for s.at.name != "" {
		d, _ := format.EntryDigest(s.at.name)
		desc, ok := due[d]
		switch {
		case !ok:
			return fmt.Errorf("the entry %q has no place here, or is there twice", s.at.name)
		case desc.Size != s.at.size:
			return fmt.Errorf("blob %s has %d bytes, declared are %d", d, s.at.size, desc.Size)
		}
		delete(due, d)
		if err := s.one(ctx, folder, desc, wanted[d], meter); err != nil {
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
	meter.Finish()
	return nil
}

// one takes the blob that comes next.
func (s *Stream) one(ctx context.Context, folder blob.Folder, desc ocispec.Descriptor, wanted bool, meter *blob.Meter) error {
	src := &source{Reader: s.tar.Content(), meter: meter}
	if wanted && !folder.Has(desc) {
		err := folder.Put(ctx, desc, func() (io.ReadCloser, error) { return src, nil })
		var p *problem.Problem
		if err != nil && !errors.As(err, &p) && ctx.Err() == nil { // not of what came
			err = fmt.Errorf("%w: %w", errKeep, err)
		}
		return err
	}
	_, err := io.Copy(io.Discard, blob.NewReader(ctx, src, desc, s.name))
	return err
}

// source is one blob's stretch of the stream.
type source struct {
	io.Reader
	meter *blob.Meter
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.meter.Add(n)
	return n, err
}

func (*source) Close() error { return nil } // the stream goes on
