package format

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/limit"
)

// Span is the position of an entry's content in the file, in bytes.
type Span struct{ Off, Size int64 }

// ErrTruncated marks a file that ends earlier than its own headers declare.
var ErrTruncated = errors.New("the file is truncated")

// ErrNotBundle marks a file that does not begin like a bundle.
var ErrNotBundle = errors.New("it is not a bundle")

// scanner reads the headers of a tar and skips the content. It accepts only the
// bytes that TarHeader returns and zero padding, so nothing outside the content
// can be altered or hidden.
type scanner struct {
	r            io.ReaderAt
	offset, size int64
}

// Table lists where the documents that precede the blobs, and the blobs, are stored.
type Table struct {
	Docs  map[string]Span
	Blobs map[digest.Digest]Span
}

// Scan returns the table of a bundle of size bytes. It reads only the headers and
// fails if anything but the content differs from what plinth writes.
func Scan(r io.ReaderAt, size int64) (Table, error) {
	s := scanner{r: r, size: size}
	t := Table{map[string]Span{}, map[digest.Digest]Span{}}
	for _, want := range []string{LayoutEntry, IndexEntry, ChecksumEntry} {
		name, body, err := s.nextEntry()
		if err != nil {
			return t, err
		}
		if name != want && want == LayoutEntry {
			return t, fmt.Errorf("%w: its first entry is %q", ErrNotBundle, name)
		}
		if name != want {
			return t, fmt.Errorf("its entry number %d is %q instead of %q", len(t.Docs)+1, name, want)
		}
		t.Docs[name] = body
	}
	optional := []string{SignatureEntry, DeltaEntry}
	for {
		name, body, err := s.nextEntry()
		if name == "" || err != nil {
			return t, err
		}
		if i := slices.Index(optional, name); i >= 0 && len(t.Blobs) == 0 {
			t.Docs[name], optional = body, optional[i+1:]
			continue
		}
		d, ok := ParseBlobEntry(name)
		switch _, twice := t.Blobs[d]; {
		case !ok:
			return t, fmt.Errorf("the entry name %q is not allowed in a bundle", name)
		case twice:
			return t, fmt.Errorf("blob %s appears twice", d)
		case len(t.Blobs) == limit.Blobs:
			return t, fmt.Errorf("it has more than %d blobs", limit.Blobs)
		}
		t.Blobs[d] = body
	}
}

// nextEntry returns the next entry, or an empty name at the end of the archive.
func (s *scanner) nextEntry() (name string, body Span, err error) {
	block, err := s.readBytes(blockSize)
	if err != nil {
		return "", body, err
	}
	if isZero(block) {
		return "", body, s.checkEnd()
	}
	// The tar reader only reads this header; skipContent skips the content by offset.
	h, err := tar.NewReader(io.NewSectionReader(s.r, s.offset, min(maxHeader, s.size-s.offset))).Next()
	if err != nil && s.offset == 0 {
		return "", body, ErrNotBundle
	}
	if err != nil {
		return "", body, fmt.Errorf("the tar header at byte %d is damaged: %w", s.offset, err)
	}
	want, err := expectedHeader(h)
	if err != nil {
		return "", body, err
	}
	got, err := s.readBytes(int64(len(want)))
	if err != nil {
		return "", body, err
	}
	if !bytes.Equal(got, want) {
		return "", body, alteredHeaderError(h.Name, s.offset)
	}
	body = Span{s.offset + int64(len(want)), h.Size}
	return h.Name, body, s.skipContent(h.Name, body)
}

// expectedHeader returns the only bytes that are valid for the header h.
func expectedHeader(h *tar.Header) ([]byte, error) {
	if err := checkEntry(h); err != nil {
		return nil, err
	}
	return TarHeader(h.Name, h.Size)
}

// alteredHeaderError returns the error for a header that differs from TarHeader.
func alteredHeaderError(name string, off int64) error {
	return fmt.Errorf("the tar header of %s at byte %d is not what plinth writes: it was altered or packed by another tool", name, off)
}

// skipContent moves to the header that follows body.
func (s *scanner) skipContent(name string, body Span) error {
	if body.Size > s.size-body.Off {
		return fmt.Errorf("%w: %s at byte %d should have %d bytes, but the file has %d bytes", ErrTruncated, name, body.Off, body.Size, s.size)
	}
	s.offset = body.Off + body.Size
	pad, err := s.readBytes(Padding(body.Size))
	if err != nil {
		return err
	}
	if !isZero(pad) {
		return fmt.Errorf("the padding after %s at byte %d is not zero", name, s.offset)
	}
	s.offset += int64(len(pad))
	return nil
}

// checkEnd verifies that the file ends with exactly two zero blocks.
func (s *scanner) checkEnd() error {
	tail, err := s.readBytes(2 * blockSize)
	switch {
	case err != nil:
		return err
	case s.offset+2*blockSize != s.size:
		return fmt.Errorf("it continues after its end at byte %d", s.offset+2*blockSize)
	case !isZero(tail):
		return fmt.Errorf("the end of the archive at byte %d is damaged", s.offset)
	}
	return nil
}

// readBytes returns n bytes at the current offset and does not change the offset.
func (s *scanner) readBytes(n int64) ([]byte, error) {
	if n > s.size-s.offset {
		return nil, fmt.Errorf("%w: its table of contents continues after the last byte, %d", ErrTruncated, s.size)
	}
	buf := make([]byte, n)
	if _, err := s.r.ReadAt(buf, s.offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return buf, nil
}

// checkEntry returns an error for entry types and names that a bundle cannot contain.
func checkEntry(h *tar.Header) error {
	switch {
	case h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink:
		return fmt.Errorf("its entry %q is a link; a bundle contains only files", h.Name)
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("its entry %q is not a regular file", h.Name)
	case path.IsAbs(h.Name) || path.Clean(h.Name) != h.Name || strings.HasPrefix(h.Name, ".."):
		return fmt.Errorf("its entry name %q points outside the archive", h.Name)
	}
	return nil
}

func isZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
