package push

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/fetch"
)

// Tagged is an image and the reference to which it is uploaded.
type Tagged struct {
	To       string // full reference with a tag: harbor.example.com/my-app/kotsadm:v1.131.2
	Manifest ocispec.Descriptor
	Blobs    []ocispec.Descriptor // its config and layers
}

// MissingTags returns the images whose tag does not exist, or points to another image. It returns the error
// of the first request that failed: the registry does not answer, or refuses the login of o.
func MissingTags(ctx context.Context, images []Tagged, o fetch.Options) (missing []Tagged, err error) {
	for _, img := range images {
		repo, tag, err := openTagged(ctx, img, o)
		if err != nil {
			return nil, err
		}
		doc, err := repo.FetchManifest(ctx, tag.TagStr())
		switch {
		case fetch.IsNotFound(err):
			missing = append(missing, img)
		case err != nil:
			return nil, err
		case digest.FromBytes(doc.Data) != img.Manifest.Digest:
			missing = append(missing, img)
		}
	}
	return missing, nil
}

// UploadTagged uploads images, whose content source has, and sets their tags. It does not upload blobs
// that the registry has. A tag that pointed to another image is moved. progress is in bytes
// and may be nil.
func UploadTagged(ctx context.Context, source blob.Source, images []Tagged, o fetch.Options, progress func(done, total int64)) error {
	total := int64(0)
	for _, img := range images {
		for _, b := range img.Blobs {
			total += b.Size
		}
	}
	u := &uploader{req: Request{Note: o.Note}, options: o, source: source, meter: blob.NewProgress(total, progress), noted: map[string]bool{}}
	u.options.Note = u.note // several images are uploaded at the same time
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel)
	for _, img := range images {
		group.Go(func() error {
			if err := u.uploadTagged(groupCtx, img); err != nil {
				return fmt.Errorf("image %s: %w", img.To, err)
			}
			return nil
		})
	}
	err := group.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	u.meter.Finish()
	return err
}

// uploadTagged uploads one image, its manifest last.
func (u *uploader) uploadTagged(ctx context.Context, img Tagged) error {
	repo, tag, err := openTagged(ctx, img, u.options)
	if err != nil {
		return err
	}
	for _, desc := range img.Blobs {
		if err := u.uploadBlob(ctx, repo, tag.Context(), desc); err != nil {
			return err
		}
	}
	doc, err := u.document(ctx, img.Manifest)
	if err != nil {
		return err
	}
	return repo.UploadManifest(ctx, tag.TagStr(), doc)
}

// openTagged connects to the repository of an image, with the right to upload, and returns its tag.
func openTagged(ctx context.Context, img Tagged, o fetch.Options) (*fetch.Repository, name.Tag, error) {
	tag, err := name.NewTag(img.To, name.StrictValidation)
	if err != nil {
		return nil, tag, err
	}
	repo, err := fetch.OpenRepositoryForUpload(ctx, tag.Context(), o)
	return repo, tag, err
}
