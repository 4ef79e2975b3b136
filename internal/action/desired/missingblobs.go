package desired

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

// MissingBlobs returns those blobs that a thin bundle omits and that the host does not
// have either: files that are not installed, image content that is not in containerd.
// When containerd does not run, its content is unknown and all images are listed.
func MissingBlobs(ctx context.Context, h host.Host, b *airgap.Bundle) ([]ocispec.Descriptor, error) {
	need := map[digest.Digest]bool{}
	files, err := hostArtifacts(ctx, b)
	if err != nil {
		return nil, err
	}
	for _, f := range b.HostFiles() {
		why, err := files[HostFilePaths()[f.Name]].Check(ctx, h)
		if err != nil {
			return nil, err
		}
		need[f.Packed.Digest] = why != ""
	}
	var all []images.Image
	for _, i := range b.Images() {
		all = append(all, toImage(i))
	}
	blobs, err := missingImageBlobs(ctx, h, all)
	if err != nil {
		return nil, err
	}
	for _, d := range blobs {
		need[d.Digest] = true
	}
	var missing []ocispec.Descriptor
	for _, d := range b.Missing() {
		if need[d.Digest] {
			missing = append(missing, d)
		}
	}
	return missing, nil
}

// missingImageBlobs returns the blobs of all that are not in containerd, or every blob
// when containerd does not run.
func missingImageBlobs(ctx context.Context, h host.Host, all []images.Image) ([]ocispec.Descriptor, error) {
	if _, err := h.Lstat(k0s.ContainerdSocket); err == nil {
		store, err := images.Open(ctx, k0s.ContainerdSocket, nil, 2*time.Second, nil)
		if err == nil {
			blobs, err := store.MissingBlobs(ctx, all)
			return blobs, errors.Join(err, store.Close())
		}
	}
	var blobs []ocispec.Descriptor
	for _, i := range all {
		blobs = append(blobs, i.Blobs...)
	}
	return blobs, ctx.Err()
}
