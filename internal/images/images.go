// Package images owns bringing a bundle's images into the node's containerd:
// in parallel, in order of need, skipping by content what is there, unpacked
// at once so that the first pod does not wait. It refuses to know where the
// bytes come from.
package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/content"
	cimages "github.com/containerd/containerd/images"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/internal/wait"
)

// namespace is where kubelet's containerd keeps its images.
const namespace = "k8s.io"

// labels mark an image as kubelet's own and keep its garbage collector away:
// without internet a collected image cannot be had again.
func labels() map[string]string {
	return map[string]string{"io.cri-containerd.image": "managed", "io.cri-containerd.pinned": "pinned"}
}

// Source opens a blob. It need not prove that the bytes are those that desc
// names: containerd does, and keeps no others.
type Source interface {
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Image is one image to bring in.
type Image struct {
	Ref      string               // full reference
	Manifest ocispec.Descriptor   // its manifest
	Blobs    []ocispec.Descriptor // config and layers, in the manifest's order
}

// Size is how many bytes an image has as stored.
func (i Image) Size() int64 {
	n := i.Manifest.Size
	for _, b := range i.Blobs {
		n += b.Size
	}
	return n
}

// Width is how many images are best imported at once: two keep the disk and
// the unpacker busy without starving the API server that starts beside.
const Width = 2

// Report is told what is being done and how many bytes are done of how many.
type Report = func(message string, bytes, total int64)

// Store is the image store of one containerd.
type Store struct {
	client *containerd.Client
}

// Open connects to the containerd at socket, waiting up to timeout for it to
// serve.
func Open(ctx context.Context, socket string, timeout time.Duration, culprit func(context.Context) string) (*Store, error) {
	var client *containerd.Client
	err := wait.Until(ctx, wait.Options{What: "containerd to answer on " + socket, Timeout: timeout, Interval: 200 * time.Millisecond, Culprit: culprit,
		Next: "sudo journalctl -u 'k0s*'"},
		func(ctx context.Context) (bool, string, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
			if err != nil {
				return false, err.Error(), nil
			}
			_ = conn.Close()
			if client == nil {
				c, err := containerd.New(socket, containerd.WithDefaultNamespace(namespace), containerd.WithTimeout(2*time.Second))
				if err != nil {
					return false, err.Error(), nil
				}
				client = c
			}
			serving, err := client.IsServing(ctx)
			if err != nil || !serving {
				return false, "the socket is there, the service not yet", nil
			}
			return true, "", nil
		})
	if err != nil {
		if client != nil {
			_ = client.Close()
		}
		return nil, err
	}
	return &Store{client: client}, nil
}

// Close ends the connection.
func (s *Store) Close() error { return s.client.Close() }

// Missing lists, of want, those that are not in the store with exactly that
// content, unpacked.
func (s *Store) Missing(ctx context.Context, want []Image) ([]Image, error) {
	ctx = namespaces.WithNamespace(ctx, namespace)
	var out []Image
	for _, img := range want {
		ok, err := s.has(ctx, img)
		if err != nil {
			return nil, err
		}
		if !ok {
			out = append(out, img)
		}
	}
	return out, nil
}

// Lacking lists the blobs that importing want would read: those of its missing
// images that the store does not have.
func (s *Store) Lacking(ctx context.Context, want []Image) ([]ocispec.Descriptor, error) {
	missing, err := s.Missing(ctx, want)
	if err != nil {
		return nil, err
	}
	ctx = namespaces.WithNamespace(ctx, namespace)
	var lacking []ocispec.Descriptor
	for _, img := range missing {
		for _, d := range append(slices.Clone(img.Blobs), img.Manifest) {
			_, err := s.client.ContentStore().Info(ctx, d.Digest)
			switch {
			case errdefs.IsNotFound(err):
				lacking = append(lacking, d)
			case err != nil:
				return nil, err
			}
		}
	}
	return lacking, nil
}

func (s *Store) has(ctx context.Context, img Image) (bool, error) {
	rec, err := s.client.ImageService().Get(ctx, img.Ref)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil || rec.Target.Digest != img.Manifest.Digest {
		return false, err
	}
	unpacked, err := containerd.NewImage(s.client, rec).IsUnpacked(ctx, containerd.DefaultSnapshotter)
	if errdefs.IsNotFound(err) { // content that a killed import never finished
		return false, nil
	}
	return unpacked, err
}

// Import brings want into the store, starting in the order given, width
// images at a time. What is there by content is not read again.
func (s *Store) Import(ctx context.Context, src Source, want []Image, width int, report Report) error {
	ctx = namespaces.WithNamespace(ctx, namespace)
	// The lease keeps containerd's garbage collector off blobs that no image
	// refers to yet.
	ctx, done, err := s.client.WithLease(ctx)
	if err != nil {
		return err
	}
	defer func() {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = done(release)
	}()
	p := &progress{report: report, total: size(want)}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(width)
	for _, img := range want {
		group.Go(func() error {
			if err := s.importOne(ctx, src, img, p); err != nil {
				return fmt.Errorf("import %s: %w", img.Ref, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (s *Store) importOne(ctx context.Context, src Source, img Image, p *progress) error {
	if err := ctx.Err(); err != nil { // another image failed, or the user stopped it
		return err
	}
	store := s.client.ContentStore()
	// Children first: the manifest in the store means that all of it is there.
	for _, d := range append(slices.Clone(img.Blobs), img.Manifest) {
		if err := copyBlob(ctx, store, src, d, p.step(img.Ref)); err != nil {
			return err
		}
	}
	label := cimages.SetChildrenLabels(store, cimages.ChildrenHandler(store))
	if err := cimages.Dispatch(ctx, label, nil, img.Manifest); err != nil {
		return err
	}
	rec := cimages.Image{Name: img.Ref, Target: img.Manifest, Labels: labels()}
	if err := s.put(ctx, rec); err != nil {
		return err
	}
	return containerd.NewImage(s.client, rec).Unpack(ctx, containerd.DefaultSnapshotter)
}

func (s *Store) put(ctx context.Context, rec cimages.Image) error {
	_, err := s.client.ImageService().Create(ctx, rec)
	if errdefs.IsAlreadyExists(err) {
		_, err = s.client.ImageService().Update(ctx, rec)
	}
	return err
}

func copyBlob(ctx context.Context, store content.Store, src Source, d ocispec.Descriptor, add func(int64)) error {
	if _, err := store.Info(ctx, d.Digest); err == nil {
		add(d.Size)
		return nil
	} else if !errdefs.IsNotFound(err) {
		return err
	}
	r, err := src.Open(ctx, d)
	if err != nil {
		return err
	}
	err = content.WriteBlob(ctx, store, "plinth-"+d.Digest.String(), parcels{r, add, min(parcel, max(d.Size, 1))}, d)
	return errors.Join(err, r.Close())
}

// parcel is how many bytes go to containerd at once. Each is answered before
// the next one goes; containerd's own parcels, a quarter as large, keep its
// socket busier than its disk.
const parcel = 4 << 20

// parcels reads, counts, and hands on in parcels.
type parcels struct {
	io.Reader
	add  func(int64)
	size int64 // of a parcel, in bytes
}

func (p parcels) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.add(int64(n))
	return n, err
}

// WriteTo is what containerd's client copies with.
func (p parcels) WriteTo(w io.Writer) (total int64, err error) {
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

// progress adds up bytes over parallel imports.
type progress struct {
	report Report
	total  int64
	bytes  atomic.Int64
}

func (p *progress) step(ref string) func(int64) {
	return func(n int64) { p.report("importing "+ref, p.bytes.Add(n), p.total) }
}

func size(images []Image) (n int64) {
	for _, img := range images {
		n += img.Size()
	}
	return n
}
