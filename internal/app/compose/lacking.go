package compose

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/images"
	"github.com/plinthdev/plinth/internal/k0s"
)

// Lacking lists, of the parts that a thin bundle leaves out, those that the
// host does not have: files that are not in place, image content that is not in
// containerd. Of one that does not run nothing is known, so all of it is listed.
func Lacking(ctx context.Context, h host.Host, b *airgap.Bundle) ([]ocispec.Descriptor, error) {
	need := map[digest.Digest]bool{}
	files, err := artifacts(ctx, b)
	if err != nil {
		return nil, err
	}
	for _, f := range b.HostFiles() {
		why, err := files[HostPaths()[f.Name]].Check(ctx, h)
		if err != nil {
			return nil, err
		}
		need[f.Packed.Digest] = why != ""
	}
	var all []images.Image
	for _, i := range b.Images() {
		all = append(all, imageOf(i))
	}
	blobs, err := lackingBlobs(ctx, h, all)
	if err != nil {
		return nil, err
	}
	for _, d := range blobs {
		need[d.Digest] = true
	}
	var lacking []ocispec.Descriptor
	for _, d := range b.Absent() {
		if need[d.Digest] {
			lacking = append(lacking, d)
		}
	}
	return lacking, nil
}

// lackingBlobs asks containerd, if it runs.
func lackingBlobs(ctx context.Context, h host.Host, all []images.Image) ([]ocispec.Descriptor, error) {
	if _, err := h.Lstat(k0s.Socket); err == nil {
		store, err := images.Open(ctx, k0s.Socket, nil, 2*time.Second, nil)
		if err == nil {
			blobs, err := store.Lacking(ctx, all)
			return blobs, errors.Join(err, store.Close())
		}
	}
	var blobs []ocispec.Descriptor
	for _, i := range all {
		blobs = append(blobs, i.Blobs...)
	}
	return blobs, ctx.Err()
}
