package format

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Tar reads the entries of a bundle that comes once, such as through a pipe,
// and accepts exactly what Scan accepts. The caller reads each entry's content,
// all of it, from Content.
type Tar struct {
	r     io.Reader
	left  int64 // of the entry's content
	pad   int64 // after it
	off   int64
	begun []byte
}

// NewTar reads a bundle from its first byte on.
func NewTar(r io.Reader) *Tar { return &Tar{r: r} }

// Next gives the next entry with its header as it stands there, or, once the
// end and nothing behind it was seen, an entry without a name.
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

// Begun gives the first block, or what came of it: it tells what else the
// stream may be.
func (t *Tar) Begun() []byte { return t.begun }

// end checks that one more zero block ends the bundle.
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
		return fmt.Errorf("it goes on after its end at byte %d", t.off)
	case err != io.EOF:
		return err
	}
	return nil
}

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

// Content gives what the entry holds; that it was cut is an error of its own.
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

// End is what stands behind the last entry.
func End() []byte { return make([]byte, 2*blockSize) }
