package images

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/containerd/containerd/content"
	"github.com/containerd/containerd/pkg/kmutex"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BlobPlacer writes a file completely or not at all, at a path where there is
// none (else fs.ErrExist).
type BlobPlacer interface {
	Place(path string, r io.Reader, perm fs.FileMode) error
}

// copier copies blobs into a content store. Through the API of the store each
// byte is wrapped, sent, acknowledged and hashed a second time, which takes
// processor time from the unpacking that runs in parallel. So a blob is placed
// in the directory of the store and only registered through the API: a store
// whose namespaces share content (containerd's default) registers a blob that
// exists there without reading it. If anything prevents that, such as a garbage
// collector that is faster, the blob is written through the API.
type copier struct {
	store  content.Store
	source Source
	placer BlobPlacer
	root   string             // directory of the store; "" if it is not known
	locks  kmutex.KeyedLocker // blobs that are being copied: images share some
}

// contentRoot returns the directory of containerd's content store, or "" if it
// cannot be used.
func (s *Store) contentRoot(ctx context.Context) string {
	if s.placer == nil {
		return ""
	}
	answer, err := s.client.IntrospectionService().Plugins(ctx, []string{"type==io.containerd.content.v1,id==content"})
	if err != nil || len(answer.Plugins) != 1 {
		return ""
	}
	return answer.Plugins[0].Exports["root"]
}

// copyBlob copies one blob unless the store has it; add is called with the
// number of bytes whenever some are done.
func (c copier) copyBlob(ctx context.Context, d ocispec.Descriptor, add func(int64)) error {
	if err := c.locks.Lock(ctx, d.Digest.String()); err != nil {
		return err
	}
	defer c.locks.Unlock(d.Digest.String())
	if _, err := c.store.Info(ctx, d.Digest); err == nil {
		add(d.Size)
		return nil
	} else if !errdefs.IsNotFound(err) {
		return err
	}
	m := &byteMeter{add: add}
	if err := c.placeBlob(ctx, d, m); err != nil {
		return err
	}
	if err := c.registerBlob(ctx, d, m); err != nil {
		return err
	}
	m.advanceTo(d.Size)
	return nil
}

// placeBlob writes the file of the blob into the directory of the store. It
// only returns errors of the source: others are left to registerBlob.
func (c copier) placeBlob(ctx context.Context, d ocispec.Descriptor, m *byteMeter) error {
	if c.root == "" {
		return nil
	}
	r, err := c.source.Open(ctx, d)
	if err != nil {
		return err
	}
	metered := &meteredReader{Reader: &verifyingReader{r, ctx, d.Digest.Verifier(), d.Size}, byteMeter: m}
	// The mode is that of containerd's own files.
	_ = c.placer.Place(path.Join(c.root, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded()), metered, 0o444)
	return errors.Join(metered.err, r.Close())
}

// registerBlob registers the blob in the store, and writes its content if it is
// not there.
func (c copier) registerBlob(ctx context.Context, d ocispec.Descriptor, m *byteMeter) error {
	w, err := content.OpenWriter(ctx, c.store, content.WithRef("plinth-"+d.Digest.String()), content.WithDescriptor(d))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	if st, err := w.Status(); err == nil && st.Offset == d.Size {
		if err := w.Commit(ctx, d.Size, d.Digest); !errdefs.IsAlreadyExists(err) {
			return err
		}
		return nil
	}
	r, err := c.source.Open(ctx, d)
	if err != nil {
		return err
	}
	err = content.Copy(ctx, w, &chunkedReader{meteredReader{Reader: r, byteMeter: m}, min(chunkSize, max(d.Size, 1))}, d.Size, d.Digest)
	return errors.Join(err, r.Close())
}

// byteMeter counts each byte of a blob once, even if the blob is read several
// times.
type byteMeter struct {
	add      func(int64)
	position int64
}

func (m *byteMeter) advanceTo(pos int64) {
	if pos > m.position {
		m.add(pos - m.position)
		m.position = pos
	}
}

// meteredReader reports the bytes that are read to its meter, and keeps the
// error that ended reading.
type meteredReader struct {
	io.Reader
	*byteMeter
	offset int64
	err    error
}

func (w *meteredReader) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	w.offset += int64(n)
	w.advanceTo(w.offset)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// verifyingReader fails at the end of content that does not have the wanted
// digest and size, and as soon as ctx is done.
type verifyingReader struct {
	io.Reader
	ctx       context.Context
	verifier  digest.Verifier
	remaining int64
}

func (p *verifyingReader) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.Reader.Read(b)
	p.remaining -= int64(n)
	_, _ = p.verifier.Write(b[:n]) // a hash never returns an error
	if p.remaining < 0 || err == io.EOF && (p.remaining > 0 || !p.verifier.Verified()) {
		return 0, errors.New("the content does not match its digest and size")
	}
	return n, err
}

// chunkSize is how many bytes are sent to containerd at once. Each chunk is
// acknowledged before the next one is sent; with containerd's own chunks, a
// quarter as large, its socket is busier than its disk.
const chunkSize = 4 << 20

// chunkedReader passes its content on in chunks of the given size.
type chunkedReader struct {
	meteredReader
	size int64 // of a chunk, in bytes
}

// WriteTo is called by containerd's client to copy the content.
func (p *chunkedReader) WriteTo(w io.Writer) (total int64, err error) {
	buf := make([]byte, p.size)
	for {
		n, err := io.ReadFull(p, buf)
		if n > 0 {
			m, err := w.Write(buf[:n])
			total += int64(m)
			if err != nil {
				return total, err
			}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return total, nil
		case err != nil:
			return total, err
		}
	}
}
