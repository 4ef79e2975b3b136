// Package images imports the images of a bundle into the containerd of the
// node. Images are imported in parallel and in order of need, content that
// exists is skipped, and each image is unpacked at once so that the first pod
// does not wait.
package images

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd"
	cimages "github.com/containerd/containerd/images"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/pkg/kmutex"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/internal/wait"
)

// namespace is the containerd namespace of kubelet's images.
const namespace = "k8s.io"

// pinnedLabels returns the labels that mark an image as kubelet's own and
// protect it from kubelet's garbage collector: without internet access a
// collected image cannot be pulled again.
func pinnedLabels() map[string]string {
	return map[string]string{"io.cri-containerd.image": "managed", pinnedLabel: "pinned"}
}

// Source opens a blob. It need not verify that the bytes are those of desc:
// this package or containerd does.
type Source interface {
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Image is one image to import.
type Image struct {
	Ref      string               // full reference
	Manifest ocispec.Descriptor   // its manifest
	Blobs    []ocispec.Descriptor // config and layers, in the manifest's order
}

// Size returns the stored size of the image in bytes.
func (i Image) Size() int64 {
	n := i.Manifest.Size
	for _, b := range i.Blobs {
		n += b.Size
	}
	return n
}

// DefaultParallelism is how many images to import at once: two keep the disk
// and the unpacker busy without starving the API server that starts in
// parallel.
const DefaultParallelism = 2

// ProgressFunc is called with the current work, and with how many of the total
// bytes are done.
type ProgressFunc = func(message string, bytes, total int64)

// Store is the image store of one containerd.
type Store struct {
	client *containerd.Client
	placer BlobPlacer
}

// Open connects to the containerd at socket and waits up to timeout for it to
// serve. placer is the machine that containerd runs on: with it imports are
// faster; it may be nil. diagnose returns why containerd does not start.
func Open(ctx context.Context, socket string, placer BlobPlacer, timeout time.Duration, diagnose func(context.Context) string) (*Store, error) {
	log.L.Logger.SetOutput(io.Discard) // containerd's client logs to the terminal what its errors say too
	var client *containerd.Client
	err := wait.Until(ctx, wait.Options{What: "containerd to answer on " + socket, Timeout: timeout, Interval: 200 * time.Millisecond, Diagnose: diagnose,
		NextCommand: "sudo journalctl -u 'k0s*'"},
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
				return false, "the socket exists, but the service is not ready yet", nil
			}
			return true, "", nil
		})
	if err != nil {
		if client != nil {
			_ = client.Close()
		}
		return nil, err
	}
	return &Store{client, placer}, nil
}

// Close closes the connection.
func (s *Store) Close() error { return s.client.Close() }

// MissingImages returns the images of want that are not in the store with
// exactly this content, unpacked, or that kubelet may remove.
func (s *Store) MissingImages(ctx context.Context, want []Image) ([]Image, error) {
	ctx = namespaces.WithNamespace(ctx, namespace)
	var out []Image
	for _, img := range want {
		ok, err := s.hasImage(ctx, img)
		if err != nil {
			return nil, err
		}
		if !ok {
			out = append(out, img)
		}
	}
	return out, nil
}

// MissingBlobs returns the blobs that importing want would read: those of its
// missing images that the store does not have.
func (s *Store) MissingBlobs(ctx context.Context, want []Image) ([]ocispec.Descriptor, error) {
	missing, err := s.MissingImages(ctx, want)
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

// hasImage reports whether the store has img with exactly this content,
// unpacked, and keeps it.
func (s *Store) hasImage(ctx context.Context, img Image) (bool, error) {
	rec, err := s.client.ImageService().Get(ctx, img.Ref)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil || rec.Target.Digest != img.Manifest.Digest || rec.Labels[pinnedLabel] == "" {
		return false, err
	}
	unpacked, err := containerd.NewImage(s.client, rec).IsUnpacked(ctx, containerd.DefaultSnapshotter)
	if errdefs.IsNotFound(err) { // content of an import that was killed
		return false, nil
	}
	return unpacked, err
}

// Import imports want into the store, starting in the given order, width images
// at a time. Content that the store has is not read again.
func (s *Store) Import(ctx context.Context, src Source, want []Image, width int, report ProgressFunc) error {
	ctx = namespaces.WithNamespace(ctx, namespace)
	// The lease protects blobs that no image refers to yet from containerd's
	// garbage collector.
	ctx, done, err := s.client.WithLease(ctx)
	if err != nil {
		return err
	}
	defer func() {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = done(release)
	}()
	c := copier{store: s.client.ContentStore(), source: src, placer: s.placer, root: s.contentRoot(ctx), locks: kmutex.New()}
	p := &progress{report: report, total: totalSize(want)}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(width)
	for _, img := range want {
		group.Go(func() error {
			if err := s.importImage(ctx, c, img, p); err != nil {
				return fmt.Errorf("cannot import %s: %w", img.Ref, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (s *Store) importImage(ctx context.Context, c copier, img Image, p *progress) error {
	if err := ctx.Err(); err != nil { // another image failed, or the user canceled the import
		return err
	}
	// Children first: if the store has the manifest, it has the whole image.
	for _, d := range append(slices.Clone(img.Blobs), img.Manifest) {
		if err := c.copyBlob(ctx, d, p.counterFor(img.Ref)); err != nil {
			return err
		}
	}
	label := cimages.SetChildrenLabels(c.store, cimages.ChildrenHandler(c.store))
	if err := cimages.Dispatch(ctx, label, nil, img.Manifest); err != nil {
		return err
	}
	rec := cimages.Image{Name: img.Ref, Target: img.Manifest, Labels: pinnedLabels()}
	if err := s.saveImage(ctx, rec); err != nil {
		return err
	}
	return containerd.NewImage(s.client, rec).Unpack(ctx, containerd.DefaultSnapshotter)
}

// saveImage creates or updates the image record.
func (s *Store) saveImage(ctx context.Context, rec cimages.Image) error {
	_, err := s.client.ImageService().Create(ctx, rec)
	if errdefs.IsAlreadyExists(err) {
		_, err = s.client.ImageService().Update(ctx, rec)
	}
	return err
}

// progress adds up the bytes of parallel imports.
type progress struct {
	report ProgressFunc
	total  int64
	bytes  atomic.Int64
}

// counterFor returns a function that adds n bytes of the image ref and reports
// the progress.
func (p *progress) counterFor(ref string) func(int64) {
	return func(n int64) { p.report("importing "+ref, p.bytes.Add(n), p.total) }
}

func totalSize(images []Image) (n int64) {
	for _, img := range images {
		n += img.Size()
	}
	return n
}
