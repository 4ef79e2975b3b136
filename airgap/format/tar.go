package format

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// TarReader reads the entries of a bundle that can be read only once, such as from
// a pipe. It accepts exactly the files that Scan accepts. The caller must read the
// whole content of each entry from Content before it calls Next.
type Tar struct {
	r     io.Reader
	left  int64 // bytes of the entry's content that were not read yet
	pad   int64 // zero bytes after the content
	off   int64
	begun []byte
}

// NewTarReader returns a reader of the bundle in r, which must be at its first byte.
func NewTar(r io.Reader) *Tar { return &Tar{r: r} }

// Next returns the name and size of the next entry, and its header as read. At
// the end of the bundle, if no data follows it, it returns an empty name.
func (t *Tar) Next() (name string, size int64, header []byte, err error) {
	if t.left > 0 {
		return "", 0, nil, fmt.Errorf("%d bytes of the last entry were not read", t.left)
	}
	first, err := t.take(t.pad + blockSize)
	if err != nil {
		return "", 0, nil, err
	}
	if !zero(first[:t.pad]) {
		return "", 0, nil, fmt.Errorf("the padding at byte %d is not zero", t.off-int64(len(first)))
	}
	if first = first[t.pad:]; zero(first) {
		return "", 0, nil, t.end()
	}
	var rest bytes.Buffer
	h, err := tar.NewReader(io.MultiReader(bytes.NewReader(first), io.TeeReader(t.r, &rest))).Next()
	switch begin := t.off - blockSize; {
	case begin == 0 && err != nil:
		return "", 0, nil, ErrForeign
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "", 0, nil, t.cut()
	case err != nil:
		return "", 0, nil, fmt.Errorf("the tar header at byte %d is damaged: %w", begin, err)
	}
	header = append(first, rest.Bytes()...)
	want, err := wanted(h)
	if err != nil {
		return "", 0, nil, err
	}
	if !bytes.Equal(header, want) {
		return "", 0, nil, altered(h.Name, t.off-blockSize)
	}
	t.off += int64(rest.Len())
	t.left, t.pad = h.Size, Padding(h.Size)
	return h.Name, h.Size, header, nil
}

// FirstBlock returns the first block of the stream, or the part of it that was
// read. It shows what the stream is if it is not a bundle.
func (t *Tar) Begun() []byte { return t.begun }

// checkEnd verifies that one more zero block, and nothing else, ends the bundle.
func (t *Tar) end() error {
	last, err := t.take(blockSize)
	if err != nil {
		return err
	}
	if !zero(last) {
		return fmt.Errorf("the end of the archive at byte %d is damaged", t.off-blockSize)
	}
	switch n, err := io.ReadFull(t.r, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("it continues after its end at byte %d", t.off)
	case err != io.EOF:
		return err
	}
	return nil
}

// readBytes returns the next n bytes.
func (t *Tar) take(n int64) ([]byte, error) {
	buf := make([]byte, n)
	got, err := io.ReadFull(t.r, buf)
	if t.off == 0 {
		t.begun = buf[:got]
	}
	t.off += int64(got)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = t.cut()
	}
	return buf, err
}

func (t *Tar) cut() error { return fmt.Errorf("%w: it ends at byte %d", ErrTruncated, t.off) }

// Content returns a reader of the current entry's content. If the stream ends too
// early, reading fails with ErrTruncated.
func (t *Tar) Content() io.Reader { return content{t} }

type content struct{ *Tar }

func (c content) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.off += int64(n)
	switch {
	case err == io.EOF && c.left > 0:
		err = c.cut()
	case err == io.EOF:
		err = nil
	}
	return n, err
}

// EndBlocks returns the bytes that follow the last entry of a bundle.
func End() []byte { return make([]byte, 2*blockSize) }
