package delta

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
)

// tempDir is the folder of the temporary files; see blob.TempFile.
type tempDir string

// tempFile is an unnamed temporary file and its size in bytes.
type tempFile struct {
	f    *os.File
	size int64
}

func (s tempFile) newSection() *io.SectionReader { return io.NewSectionReader(s.f, 0, s.size) }

func (s tempFile) newReader() io.Reader { return bufio.NewReaderSize(s.newSection(), 1<<20) }

func (s tempFile) close() {
	if s.f != nil {
		_ = s.f.Close()
	}
}

// createFile returns a temporary file with what write writes.
func (d tempDir) createFile(write func(io.Writer) error) (tempFile, error) {
	f, err := blob.TempFile(string(d))
	if err != nil {
		return tempFile{}, err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	err = errors.Join(write(w), w.Flush())
	size, seekErr := f.Seek(0, io.SeekCurrent)
	if err := errors.Join(err, seekErr); err != nil {
		return tempFile{}, errors.Join(err, f.Close())
	}
	return tempFile{f, size}, nil
}

// unpackLayer returns a temporary file with the unpacked content of a layer. It
// fails if the content is larger than declared.
func (d tempDir) unpackLayer(ctx context.Context, b *airgap.Bundle, l format.Layer) (tempFile, error) {
	return d.createFile(func(w io.Writer) error {
		r, err := b.Open(ctx, l.Descriptor)
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		u, err := blob.Unpack(r, l.MediaType)
		if err != nil {
			return err
		}
		defer func() { _ = u.Close() }()
		n, err := io.Copy(w, io.LimitReader(u, l.Unpacked+1))
		if err == nil && n > l.Unpacked {
			err = fmt.Errorf("blob %s unpacks to more than the %d bytes it declares", l.Digest, l.Unpacked)
		}
		return err
	})
}

// compressLayer writes plain to w, compressed as format.PackedBetter defines.
func compressLayer(w io.Writer, plain io.Reader) error {
	enc, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	_, err = io.Copy(enc, plain)
	return errors.Join(err, enc.Close())
}
