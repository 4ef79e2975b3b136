package pull

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/format"
)

// fetchImage downloads one image for the requested platform. Of a multi-platform
// image it keeps only that platform's manifest, under the reference text.
func (f *fetcher) fetchImage(ctx context.Context, text string) error {
	ref, err := name.ParseReference(text, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("image %s: %w", text, err)
	}
	var img v1.Image
	var item format.Item
	if err := f.retryFetch(ctx, func() (err error) {
		img, item, err = f.fetchManifest(ctx, ref, text)
		return err
	}); err != nil {
		return fmt.Errorf("image %s: %w", text, err)
	}
	for _, desc := range item.Blobs()[1:] { // the manifest is stored last: it marks the image as complete
		if err := f.retryFetch(ctx, func() error { return f.fetchBlob(ctx, img, desc) }); err != nil {
			return fmt.Errorf("image %s: %w", text, err)
		}
	}
	raw, err := img.RawManifest()
	if err == nil {
		err = f.folder.Put(ctx, item.Manifest, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
	}
	if err == nil {
		err = f.addToIndex(item.Manifest)
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", text, err)
	}
	return nil
}

// fetchManifest returns the image that a reference names in its registry, and adds
// the sizes of its missing blobs to the progress total.
func (f *fetcher) fetchManifest(ctx context.Context, ref name.Reference, text string) (v1.Image, format.Item, error) {
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: f.os, Architecture: f.arch}),
		remote.WithTransport(f.transport), remote.WithRetryStatusCodes()) // no retries here: retryFetch does them
	if err != nil {
		return nil, format.Item{}, err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return nil, format.Item{}, err
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return nil, format.Item{}, err
	}
	desc := ocispec.Descriptor{MediaType: string(mediaType), Digest: digest.FromBytes(raw), Size: int64(len(raw)), Annotations: map[string]string{
		format.AnnotationKind: string(format.KindImage), format.AnnotationImageName: text, ocispec.AnnotationRefName: text,
		ocispec.AnnotationVersion: ref.Identifier()}}
	item, err := format.ParseItem(desc, raw)
	if err != nil {
		return nil, item, fmt.Errorf("%w: %w", fetch.ErrUnusable, err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, item, err
	}
	item.Manifest.Platform = &ocispec.Platform{OS: f.os, Architecture: f.arch}
	if _, err := item.DiffIDs(config); err != nil { // a single-platform manifest can be for another platform
		return nil, item, fmt.Errorf("%w: %w", fetch.ErrUnusable, err)
	}
	for _, b := range item.Blobs()[1:] {
		if !f.folder.Has(b) {
			f.meter.AddTotal(b.Size)
		}
	}
	return img, item, nil
}

// fetchBlob downloads one blob, unless the folder has it.
func (f *fetcher) fetchBlob(ctx context.Context, img v1.Image, desc ocispec.Descriptor) error {
	return f.folder.Put(ctx, desc, func() (io.ReadCloser, error) {
		layer, err := img.LayerByDigest(v1.Hash{Algorithm: "sha256", Hex: desc.Digest.Encoded()})
		if err != nil {
			return nil, err
		}
		body, err := layer.Compressed()
		if err != nil {
			return nil, err
		}
		return bodyReader{progressReader{body, f}, body}, nil
	})
}

// bodyReader combines a reader with the closer of its source.
type bodyReader struct {
	io.Reader
	io.Closer
}
