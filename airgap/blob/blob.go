// Package blob owns bytes that are named by their digest: readers that prove
// what they deliver, where such bytes come from (Source), how far they may
// grow when unpacked, and folders in OCI image layout that hold them.
// It refuses to know what the bytes mean: no kinds, no names, no bundle.
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

	"github.com/plinthdev/plinth/internal/problem"
)

// MaxDocument is the most bytes that an index, a manifest or an image config
// may have: such documents are read into memory.
const MaxDocument = 4 << 20

// Source gives the content that a descriptor names. Its readers prove digest
// and size while they deliver; see NewReader. Many may read at once.
type Source interface {
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Check reports a descriptor that cannot name content: only SHA-256 is spoken,
// sizes are not negative.
func Check(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil || desc.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("%q is not a sha256 digest", desc.Digest)
	}
	if desc.Size < 0 {
		return fmt.Errorf("blob %s has the negative size %d", desc.Digest, desc.Size)
	}
	return nil
}

// reader is the verifying reader.
type reader struct {
	src  io.ReadCloser
	hash hash.Hash
	want ocispec.Descriptor
	left int64
	from string
	ctx  context.Context
	err  error
}

// NewReader gives the bytes of src as long as they can still be those that
// desc names, and io.EOF only when they were. It never delivers more than
// desc.Size bytes, and holds the last ones back until the digest is known to
// be right, so wrong content is never complete, not even for a caller who
// stops at the expected size. from names the origin in errors, which are
// problems with the exit code for a bad bundle. A done ctx ends the stream.
func NewReader(ctx context.Context, src io.ReadCloser, desc ocispec.Descriptor, from string) io.ReadCloser {
	return &reader{ctx: ctx, src: src, hash: sha256.New(), want: desc, left: desc.Size, from: from}
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	if r.left == 0 {
		r.err = r.finish()
		return 0, r.err
	}
	n, err := r.src.Read(p[:min(int64(len(p)), r.left)])
	r.hash.Write(p[:n])
	r.left -= int64(n)
	switch {
	case r.left == 0:
		if r.err = r.finish(); r.err != io.EOF {
			return 0, r.err
		}
		return n, nil
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		r.err = r.damaged("it ends after %d of %d bytes", r.want.Size-r.left, r.want.Size)
	case err != nil:
		r.err = r.damaged("%w", err)
	}
	return n, r.err
}

// finish decides, all declared bytes read, whether that was the content.
func (r *reader) finish() error {
	if r.err != nil {
		return r.err
	}
	var extra [1]byte
	n, err := io.ReadFull(r.src, extra[:])
	if n > 0 {
		return r.damaged("it is longer than its %d bytes", r.want.Size)
	}
	if err != io.EOF {
		return r.damaged("%w", err)
	}
	if got := hex.EncodeToString(r.hash.Sum(nil)); got != r.want.Digest.Encoded() {
		return r.damaged("its content has the digest sha256:%s", got)
	}
	return io.EOF
}

func (r *reader) damaged(format string, args ...any) error {
	cause := fmt.Errorf(format, args...)
	if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return problem.New(problem.ExitBundle, fmt.Sprintf("read %s from %s", r.want.Digest, r.from), cause,
		"the copy is damaged: fetch or build it again")
}

func (r *reader) Close() error { return r.src.Close() }

// ReadAll gives a small blob as a whole, proved; more than limit bytes are refused.
func ReadAll(ctx context.Context, src Source, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := Check(desc); err != nil {
		return nil, err
	}
	if desc.Size > limit {
		return nil, fmt.Errorf("blob %s has %d bytes, more than the %d that such a document may have", desc.Digest, desc.Size, limit)
	}
	r, err := src.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}
