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

// Shelf puts a file, whole or not at all, where there is none (fs.ErrExist).
type Shelf interface {
	Place(path string, r io.Reader, perm fs.FileMode) error
}

// copier brings blobs into a content store. Through its API each byte is
// wrapped, sent, answered and summed a second time, which takes the processors
// from the unpacking beside it. So a blob is placed in the store's folder, and the
// API only told of it: a store whose namespaces share content (containerd's
// default) enters a blob that lies there without reading it. Whatever prevents
// that, such as a garbage collector that is quicker, ends in the API.
type copier struct {
	store  content.Store
	src    Source
	shelf  Shelf
	folder string             // where the store keeps its files; "" when it cannot be told
	busy   kmutex.KeyedLocker // blobs on their way: images share some
}

// folder asks containerd where its content store is.
func (s *Store) folder(ctx context.Context) string {
	if s.shelf == nil {
		return ""
	}
	answer, err := s.client.IntrospectionService().Plugins(ctx, []string{"type==io.containerd.content.v1,id==content"})
	if err != nil || len(answer.Plugins) != 1 {
		return ""
	}
	return answer.Plugins[0].Exports["root"]
}

// copy brings one blob in; add is told of its bytes.
func (c copier) copy(ctx context.Context, d ocispec.Descriptor, add func(int64)) error {
	if err := c.busy.Lock(ctx, d.Digest.String()); err != nil {
		return err
	}
	defer c.busy.Unlock(d.Digest.String())
	if _, err := c.store.Info(ctx, d.Digest); err == nil {
		add(d.Size)
		return nil
	} else if !errdefs.IsNotFound(err) {
		return err
	}
	m := &meter{add: add}
	if err := c.place(ctx, d, m); err != nil {
		return err
	}
	if err := c.enter(ctx, d, m); err != nil {
		return err
	}
	m.reach(d.Size)
	return nil
}

// place puts the blob's file into the store. Only the source's error is one.
func (c copier) place(ctx context.Context, d ocispec.Descriptor, m *meter) error {
	if c.folder == "" {
		return nil
	}
	r, err := c.src.Open(ctx, d)
	if err != nil {
		return err
	}
	watched := &watched{Reader: &proving{r, ctx, d.Digest.Verifier(), d.Size}, meter: m}
	// The file's mode is that of containerd's own.
	_ = c.shelf.Place(path.Join(c.folder, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded()), watched, 0o444)
	return errors.Join(watched.err, r.Close())
}

// enter makes the blob known to the store, and writes what of it is not there.
func (c copier) enter(ctx context.Context, d ocispec.Descriptor, m *meter) error {
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
	r, err := c.src.Open(ctx, d)
	if err != nil {
		return err
	}
	err = content.Copy(ctx, w, &parcels{watched{Reader: r, meter: m}, min(parcel, max(d.Size, 1))}, d.Size, d.Digest)
	return errors.Join(err, r.Close())
}

// meter counts each byte of a blob once, however often it is read.
type meter struct {
	add  func(int64)
	seen int64
}

func (m *meter) reach(pos int64) {
	if pos > m.seen {
		m.add(pos - m.seen)
		m.seen = pos
	}
}

// watched tells the meter what is read, and remembers why reading failed.
type watched struct {
	io.Reader
	*meter
	pos int64
	err error
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	w.pos += int64(n)
	w.reach(w.pos)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// proving fails at the end of what is not the content wanted, and once ctx is done.
type proving struct {
	io.Reader
	ctx  context.Context
	sum  digest.Verifier
	left int64
}

func (p *proving) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.Reader.Read(b)
	p.left -= int64(n)
	_, _ = p.sum.Write(b[:n]) // a hash takes everything
	if p.left < 0 || err == io.EOF && (p.left > 0 || !p.sum.Verified()) {
		return 0, errors.New("the content is not what its digest and size say")
	}
	return n, err
}

// parcel is how many bytes go to containerd at once. Each is answered before
// the next one goes; containerd's own parcels, a quarter as large, keep its
// socket busier than its disk.
const parcel = 4 << 20

// parcels hands on in parcels.
type parcels struct {
	watched
	size int64 // of a parcel, in bytes
}

// WriteTo is what containerd's client copies with.
func (p *parcels) WriteTo(w io.Writer) (total int64, err error) {
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
