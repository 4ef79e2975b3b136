package images

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/errdefs"
)

// pinnedLabel is the label by which kubelet's garbage collector spares an image.
const pinnedLabel = "io.cri-containerd.pinned"

// PinnedImages returns the references of all images that kubelet's garbage collector spares, sorted.
func (s *Store) PinnedImages(ctx context.Context) (refs []string, err error) {
	all, err := s.client.ImageService().List(namespaces.WithNamespace(ctx, namespace), fmt.Sprintf("labels.%q==pinned", pinnedLabel))
	for _, img := range all {
		refs = append(refs, img.Name)
	}
	slices.Sort(refs)
	return refs, err
}

// Unpin lets kubelet's garbage collector remove images, which it does only with those that no container uses, and only
// when the disk is almost full. An image that does not exist is skipped.
func (s *Store) Unpin(ctx context.Context, refs []string) error {
	ctx = namespaces.WithNamespace(ctx, namespace)
	for _, ref := range refs {
		img, err := s.client.ImageService().Get(ctx, ref)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		img.Labels = maps.Clone(img.Labels)
		delete(img.Labels, pinnedLabel)
		if _, err := s.client.ImageService().Update(ctx, img, "labels"); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}
