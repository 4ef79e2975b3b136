package blob

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/limit"
)

const (
	// maxBlock is the maximum unpacked size of a zstd block in bytes (RFC 8878 §3.1.1.2.3).
	maxBlock = 128 << 10
	// bufferSize in bytes is large enough to need few system calls.
	bufferSize = 1 << 20
)

// Compression returns the compression of a media type: "zstd", "gzip" or "" for none.
func Compression(mediaType string) string {
	switch {
	case strings.HasSuffix(mediaType, "zstd"):
		return "zstd"
	case strings.HasSuffix(mediaType, "gzip"):
		return "gzip"
	}
	return ""
}

// Unpack returns a reader of the unpacked content of r, which has the given media
// type. It reads r to its end, so that a verifying r reports wrong content.
func Unpack(r io.Reader, mediaType string) (io.ReadCloser, error) {
	r = bufio.NewReaderSize(r, bufferSize)
	switch Compression(mediaType) {
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(limit.Window))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		return z, nil
	}
	return io.NopCloser(r), nil
}

// Measure returns the digest and the size in bytes of a blob's unpacked content.
func Measure(ctx context.Context, src Source, desc ocispec.Descriptor) (digest.Digest, int64, error) {
	r, err := src.Open(ctx, desc)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = r.Close() }()
	u, err := Unpack(r, desc.MediaType)
	if err != nil {
		return "", 0, unpackError(desc, err)
	}
	defer func() { _ = u.Close() }()
	sum := digest.SHA256.Digester()
	n, err := io.CopyBuffer(sum.Hash(), u, make([]byte, bufferSize))
	if err != nil {
		return "", 0, unpackError(desc, err)
	}
	return sum.Digest(), n, nil
}

func unpackError(desc ocispec.Descriptor, err error) error {
	return fmt.Errorf("blob %s (%s): %w", desc.Digest, desc.MediaType, err)
}

// Verifier verifies blobs, several at once. It unpacks one zstd stream at a time,
// because each may need limit.Window bytes of memory.
type Verifier struct{ unpacking sync.Mutex }

// Verify reads a blob to its end and so verifies its digest and size. unpacked is
// its declared unpacked size in bytes, or negative if none is declared.
// Verify fails if the real unpacked size can be more than twice the declared size.
// For zstd the block headers usually show that without unpacking, which makes
// Verify about as fast as a checksum. If they do not, and for other
// compressions, the blob is unpacked and must have exactly the declared size.
func (v *Verifier) Verify(ctx context.Context, src Source, desc ocispec.Descriptor, unpacked int64) error {
	r, err := src.Open(ctx, desc)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	compression := Compression(desc.MediaType)
	switch {
	case unpacked < 0:
		_, err = io.CopyBuffer(io.Discard, r, make([]byte, bufferSize))
		return err
	case compression == "zstd":
		most, err := maxUnpackedSize(r)
		if err != nil {
			return unpackError(desc, err)
		}
		if unpacked > most {
			return fmt.Errorf("blob %s unpacks to at most %d bytes, it declares %d", desc.Digest, most, unpacked)
		}
		if most/2 > unpacked {
			v.unpacking.Lock()
			defer v.unpacking.Unlock()
			return verifyExactSize(ctx, src, desc, unpacked)
		}
		return nil
	}
	return checkExactSize(r, desc, unpacked)
}

// verifyExactSize opens the blob again and verifies its exact unpacked size.
func verifyExactSize(ctx context.Context, src Source, desc ocispec.Descriptor, unpacked int64) error {
	r, err := src.Open(ctx, desc)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	return checkExactSize(r, desc, unpacked)
}

// checkExactSize unpacks r and verifies that it has unpacked bytes. It stops one
// byte after the declared size, so a decompression bomb costs no more than it
// declares.
func checkExactSize(r io.Reader, desc ocispec.Descriptor, unpacked int64) error {
	u, err := Unpack(r, desc.MediaType)
	if err != nil {
		return unpackError(desc, err)
	}
	defer func() { _ = u.Close() }()
	n, err := io.CopyBuffer(io.Discard, io.LimitReader(u, unpacked+1), make([]byte, bufferSize))
	switch {
	case err != nil:
		return unpackError(desc, err)
	case n > unpacked:
		return fmt.Errorf("blob %s unpacks to more than the %d bytes it declares", desc.Digest, unpacked)
	case n < unpacked:
		return fmt.Errorf("blob %s unpacks to %d bytes, it declares %d", desc.Digest, n, unpacked)
	}
	return nil
}

// maxUnpackedSize reads the frames and blocks of a zstd stream (RFC 8878 §3.1)
// without unpacking them, and returns the maximum unpacked size in bytes.
func maxUnpackedSize(r io.Reader) (most int64, err error) {
	b := bufio.NewReaderSize(r, bufferSize)
	for {
		head, err := b.Peek(zstd.HeaderMaxSize)
		if len(head) == 0 {
			if errors.Is(err, io.EOF) {
				return most, nil
			}
			return 0, err
		}
		var h zstd.Header
		if err := h.Decode(head); err != nil {
			return 0, err
		}
		n, err := maxFrameSize(b, h)
		if err != nil {
			return 0, err
		}
		if most += n; most < 0 {
			return 0, errors.New("zstd stream declares an impossible size")
		}
	}
}

// maxFrameSize is maxUnpackedSize for one frame. It reads b to the end of the frame.
func maxFrameSize(b *bufio.Reader, h zstd.Header) (most int64, err error) {
	if h.Skippable {
		return 0, skipBytes(b, h.HeaderSize+int(h.SkippableSize))
	}
	if err := skipBytes(b, h.HeaderSize); err != nil {
		return 0, err
	}
	for last := false; !last; {
		var head [3]byte
		if _, err := io.ReadFull(b, head[:]); err != nil {
			return 0, unexpectedEOF(err)
		}
		bits := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
		last = bits&1 == 1
		size, unpacked := bits>>3, bits>>3
		switch bits >> 1 & 3 {
		case 1: // one byte, repeated
			size = 1
		case 2:
			unpacked = maxBlock
		case 3:
			return 0, errors.New("zstd block has a reserved type")
		}
		if err := skipBytes(b, size); err != nil {
			return 0, err
		}
		most += int64(unpacked)
	}
	if h.HasCheckSum {
		if err := skipBytes(b, 4); err != nil {
			return 0, err
		}
	}
	if h.HasFCS && h.FrameContentSize < uint64(most) { // a decoder stops at the content size
		most = int64(h.FrameContentSize)
	}
	return most, nil
}

func skipBytes(b *bufio.Reader, n int) error {
	_, err := b.Discard(n)
	return unexpectedEOF(err)
}

// unexpectedEOF returns io.ErrUnexpectedEOF for io.EOF, for a stream that ends inside a frame.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
