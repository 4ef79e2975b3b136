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
type TarReader struct {
	r          io.Reader
	remaining  int64 // bytes of the entry's content that were not read yet
	padding    int64 // zero bytes after the content
	offset     int64
	firstBlock []byte
}

// NewTarReader returns a reader of the bundle in r, which must be at its first byte.
func NewTarReader(r io.Reader) *TarReader { return &TarReader{r: r} }

// Next returns the name and size of the next entry, and its header as read. At
// the end of the bundle, if no data follows it, it returns an empty name.
func (t *TarReader) Next() (name string, size int64, header []byte, err error) {
	if t.remaining > 0 {
		return "", 0, nil, fmt.Errorf("%d bytes of the last entry were not read", t.remaining)
	}
	first, err := t.readBytes(t.padding + blockSize)
	if err != nil {
		return "", 0, nil, err
	}
	if !isZero(first[:t.padding]) {
		return "", 0, nil, fmt.Errorf("the padding at byte %d is not zero", t.offset-int64(len(first)))
	}
	if first = first[t.padding:]; isZero(first) {
		return "", 0, nil, t.checkEnd()
	}
	var rest bytes.Buffer
	more := &io.LimitedReader{R: t.r, N: maxHeader - blockSize}
	h, err := tar.NewReader(io.MultiReader(bytes.NewReader(first), io.TeeReader(more, &rest))).Next()
	switch begin := t.offset - blockSize; {
	case begin == 0 && err != nil:
		return "", 0, nil, ErrNotBundle
	case more.N > 0 && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)):
		return "", 0, nil, t.truncatedError()
	case err != nil:
		return "", 0, nil, fmt.Errorf("the tar header at byte %d is damaged: %w", begin, err)
	}
	header = append(first, rest.Bytes()...)
	want, err := expectedHeader(h)
	if err != nil {
		return "", 0, nil, err
	}
	if !bytes.Equal(header, want) {
		return "", 0, nil, alteredHeaderError(h.Name, t.offset-blockSize)
	}
	t.offset += int64(rest.Len())
	t.remaining, t.padding = h.Size, Padding(h.Size)
	return h.Name, h.Size, header, nil
}

// FirstBlock returns the first block of the stream, or the part of it that was
// read. It shows what the stream is if it is not a bundle.
func (t *TarReader) FirstBlock() []byte { return t.firstBlock }

// checkEnd verifies that one more zero block, and nothing else, ends the bundle.
func (t *TarReader) checkEnd() error {
	last, err := t.readBytes(blockSize)
	if err != nil {
		return err
	}
	if !isZero(last) {
		return fmt.Errorf("the end of the archive at byte %d is damaged", t.offset-blockSize)
	}
	switch n, err := io.ReadFull(t.r, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("it continues after its end at byte %d", t.offset)
	case err != io.EOF:
		return err
	}
	return nil
}

// readBytes returns the next n bytes.
func (t *TarReader) readBytes(n int64) ([]byte, error) {
	buf := make([]byte, n)
	got, err := io.ReadFull(t.r, buf)
	if t.offset == 0 {
		t.firstBlock = buf[:got]
	}
	t.offset += int64(got)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = t.truncatedError()
	}
	return buf, err
}

func (t *TarReader) truncatedError() error {
	return fmt.Errorf("%w: it ends at byte %d", ErrTruncated, t.offset)
}

// Content returns a reader of the current entry's content. If the stream ends too
// early, reading fails with ErrTruncated.
func (t *TarReader) Content() io.Reader { return entryContent{t} }

type entryContent struct{ *TarReader }

func (c entryContent) Read(p []byte) (int, error) {
	if c.remaining == 0 {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.remaining)])
	c.remaining -= int64(n)
	c.offset += int64(n)
	switch {
	case err == io.EOF && c.remaining > 0:
		err = c.truncatedError()
	case err == io.EOF:
		err = nil
	}
	return n, err
}

// EndBlocks returns the bytes that follow the last entry of a bundle.
func EndBlocks() []byte { return make([]byte, 2*blockSize) }
