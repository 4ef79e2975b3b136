// Package blob reads, verifies and stores content that is addressed by its digest.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
)

// Source opens the content for a descriptor. Its readers verify digest and size
// while they are read; see NewReader. A Source is safe for concurrent use.
type Source interface {
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// CheckDescriptor returns an error if desc cannot identify content: the digest
// must be SHA-256, and the size between 0 and limit.Blob.
func CheckDescriptor(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil || desc.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("%q is not a sha256 digest", desc.Digest)
	}
	if desc.Size < 0 {
		return fmt.Errorf("blob %s has the negative size %d", desc.Digest, desc.Size)
	}
	if desc.Size > limit.Blob {
		return fmt.Errorf("blob %s has %d bytes, more than the maximum of %d", desc.Digest, desc.Size, int64(limit.Blob))
	}
	return nil
}

// verifyingReader implements NewReader.
type verifyingReader struct {
	src       io.ReadCloser
	hash      hash.Hash
	want      ocispec.Descriptor
	remaining int64
	origin    string
	ctx       context.Context
	err       error
}

// NewReader returns a reader of src that verifies the digest and the size in desc.
// It returns io.EOF only if both are correct. It never returns more than desc.Size
// bytes, and returns the last bytes only after the digest is verified. So wrong
// content is never complete, not even for a caller that stops at the expected
// size. from names the origin in errors, which are problems with the exit code
// for a bad bundle. Reading fails when ctx is done.
func NewReader(ctx context.Context, src io.ReadCloser, desc ocispec.Descriptor, from string) io.ReadCloser {
	return &verifyingReader{ctx: ctx, src: src, hash: sha256.New(), want: desc, remaining: desc.Size, origin: from}
}

func (r *verifyingReader) Read(p []byte) (int, error) {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	if r.remaining == 0 {
		r.err = r.checkEnd()
		return 0, r.err
	}
	n, err := r.src.Read(p[:min(int64(len(p)), r.remaining)])
	r.hash.Write(p[:n])
	r.remaining -= int64(n)
	switch {
	case r.remaining == 0:
		if r.err = r.checkEnd(); r.err != io.EOF {
			return 0, r.err
		}
		return n, nil
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		r.err = r.damagedError("it ends after %d of %d bytes", r.want.Size-r.remaining, r.want.Size)
	case err != nil:
		r.err = r.damagedError("%w", err)
	}
	return n, r.err
}

// checkEnd is called after all declared bytes were read. It returns io.EOF if src
// ends there and the digest is correct.
func (r *verifyingReader) checkEnd() error {
	if r.err != nil {
		return r.err
	}
	var extra [1]byte
	n, err := io.ReadFull(r.src, extra[:])
	if n > 0 {
		return r.damagedError("it is longer than its %d bytes", r.want.Size)
	}
	if err != io.EOF {
		return r.damagedError("%w", err)
	}
	if got := hex.EncodeToString(r.hash.Sum(nil)); got != r.want.Digest.Encoded() {
		return r.damagedError("its content has the digest sha256:%s", got)
	}
	return io.EOF
}

// damagedError returns the problem for content that is not as described by desc. A
// canceled or expired context is returned unchanged.
func (r *verifyingReader) damagedError(format string, args ...any) error {
	cause := fmt.Errorf(format, args...)
	if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return problem.New(problem.ExitBundle, fmt.Sprintf("read %s from %s", r.want.Digest, r.origin), cause,
		"the copy is damaged: fetch or build it again")
}

func (r *verifyingReader) Close() error { return r.src.Close() }

// ReadAll returns the verified content of a blob. It fails if the blob is larger than most bytes.
func ReadAll(ctx context.Context, src Source, desc ocispec.Descriptor, most int64) ([]byte, error) {
	if err := CheckDescriptor(desc); err != nil {
		return nil, err
	}
	if desc.Size > most {
		return nil, fmt.Errorf("blob %s has %d bytes, more than the maximum of %d for such a document", desc.Digest, desc.Size, most)
	}
	r, err := src.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}
