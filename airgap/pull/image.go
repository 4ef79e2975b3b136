package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
)

// imageFetcher downloads one image.
type imageFetcher struct {
	*fetcher
	text string // reference as the caller gave it
	ref  name.Reference

	connect sync.Once
	from    name.Repository   // that of ref, or its mirror
	repo    *fetch.Repository // the connection to from
	err     error             // of the connection
}

// fetchImage downloads one image for the requested platform. Of a multi-platform
// image it keeps only that platform's manifest, under the reference text.
func (f *fetcher) fetchImage(ctx context.Context, text string) error {
	return f.withImage(text, func(i *imageFetcher) error { return i.fetch(ctx) })
}

// withImage calls use with the fetcher of one image, and adds its name to an error.
func (f *fetcher) withImage(text string, use func(*imageFetcher) error) error {
	i := imageFetcher{fetcher: f, text: text}
	var err error
	if i.ref, err = name.ParseReference(text, name.StrictValidation); err == nil {
		i.from, err = mirrorOf(i.ref.Context(), f.req.Mirrors)
	}
	if err == nil {
		err = explainRefusal(use(&i), i.from.RegistryStr())
	}
	if err != nil {
		return &partError{part: "image " + text, err: err}
	}
	return nil
}

// explainRefusal adds to an error of a registry that requires credentials what to do.
func explainRefusal(err error, host string) error {
	if !fetch.IsUnauthorized(err) {
		return err
	}
	return fmt.Errorf("%w: log in with `docker login %s`, or check the name: many registries give the same answer for a repository that does not exist", err, host)
}

// repository connects to the repository of the image or its mirror, once.
func (i *imageFetcher) repository(ctx context.Context) (*fetch.Repository, error) {
	i.connect.Do(func() { i.repo, i.err = fetch.OpenRepository(ctx, i.from, i.options) })
	return i.repo, i.err
}

// fetch downloads the image: its manifest, its config to check the platform, its
// layers. The index lists the image when it is complete.
func (i *imageFetcher) fetch(ctx context.Context) error {
	item, err := i.describe(ctx)
	if err != nil {
		return err
	}
	for _, b := range item.Blobs()[1:] {
		i.meter.AddTotal(b.Size)
	}
	if err := i.fetchConfig(ctx, item); err != nil {
		return err
	}
	for _, l := range item.Layers {
		if err := i.fetchBlob(ctx, l.Descriptor); err != nil {
			return err
		}
	}
	return i.addToIndex(item.Manifest)
}

// describe returns the image as its manifest for the requested platform describes it.
func (i *imageFetcher) describe(ctx context.Context) (format.Item, error) {
	m, err := i.resolve(ctx)
	if err != nil {
		return format.Item{}, err
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(m.Data), Size: int64(len(m.Data)), Annotations: map[string]string{
		format.AnnotationKind: string(format.KindImage), format.AnnotationImageName: i.text, ocispec.AnnotationRefName: i.text,
		ocispec.AnnotationVersion: i.ref.Identifier()}}
	item, err := format.ParseItem(desc, m.Data)
	if err != nil {
		return item, fmt.Errorf("%w: %w", fetch.ErrUnusable, err)
	}
	return item, nil
}

// fetchConfig downloads the config and checks that the image is for the requested
// platform: a manifest that is not in an index can be for another one.
func (i *imageFetcher) fetchConfig(ctx context.Context, item format.Item) error {
	if item.Config.Size > limit.Document {
		return fmt.Errorf("%w: its config has %d bytes", fetch.ErrUnusable, item.Config.Size)
	}
	if err := i.fetchBlob(ctx, item.Config); err != nil {
		return err
	}
	config, err := blob.ReadAll(ctx, i.folder, item.Config, limit.Document)
	if err != nil {
		return err
	}
	item.Manifest.Platform = &ocispec.Platform{OS: i.os, Architecture: i.arch}
	if _, err := item.DiffIDs(config); err != nil {
		return fmt.Errorf("%w: %w", fetch.ErrUnusable, err)
	}
	return nil
}

// resolve returns the manifest of the image for the requested platform.
func (i *imageFetcher) resolve(ctx context.Context) (fetch.Document, error) {
	reference := i.ref.Identifier()
	for range maxIndexDepth {
		doc, err := i.fetchManifest(ctx, reference)
		if err != nil {
			return doc, err
		}
		if !format.IsIndex(doc.MediaType) {
			return doc, nil
		}
		child, err := format.SelectPlatform(doc.Data, i.os, i.arch)
		if err != nil {
			return doc, fmt.Errorf("%w: %w", fetch.ErrUnusable, err)
		}
		reference = child.Digest.String()
	}
	return fetch.Document{}, fmt.Errorf("%w: its indexes are nested more than %d deep", fetch.ErrUnusable, maxIndexDepth)
}

// fetchManifest returns the manifest for a tag or a digest. One whose digest is
// known is taken from the folder if it is there.
func (i *imageFetcher) fetchManifest(ctx context.Context, reference string) (fetch.Document, error) {
	if doc, err := i.storedManifest(ctx, digest.Digest(reference)); err == nil {
		return doc, nil
	}
	repo, err := i.repository(ctx)
	if err != nil {
		return fetch.Document{}, err
	}
	if _, err := digest.Parse(reference); err != nil {
		resolved, err := repo.ResolveTag(ctx, reference)
		if err != nil {
			return fetch.Document{}, err
		}
		if resolved != "" {
			if doc, err := i.storedManifest(ctx, resolved); err == nil {
				return doc, nil
			}
			reference = resolved.String()
		}
	}
	doc, err := repo.FetchManifest(ctx, reference)
	if err != nil {
		return doc, err
	}
	if doc.MediaType, err = manifestType(doc); err != nil {
		return doc, fmt.Errorf("%w: %w", fetch.ErrUnusable, err)
	}
	desc := ocispec.Descriptor{Digest: digest.FromBytes(doc.Data), Size: int64(len(doc.Data))}
	return doc, i.folder.Put(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(doc.Data)), nil })
}

// storedManifest returns a manifest from the folder.
func (i *imageFetcher) storedManifest(ctx context.Context, d digest.Digest) (doc fetch.Document, err error) {
	size, ok := i.folder.Find(d)
	if !ok {
		return doc, errors.New("it is not in the folder")
	}
	doc.Data, err = blob.ReadAll(ctx, i.folder, ocispec.Descriptor{Digest: d, Size: size}, limit.Document)
	if err == nil {
		doc.MediaType, err = manifestType(doc)
	}
	if err != nil {
		return doc, errors.Join(err, i.folder.Remove(d))
	}
	return doc, nil
}

// fetchBlob downloads one blob, unless the folder has it undamaged.
func (i *imageFetcher) fetchBlob(ctx context.Context, desc ocispec.Descriptor) error {
	lock, _ := i.blobs.LoadOrStore(desc.Digest, &sync.Mutex{})
	lock.(*sync.Mutex).Lock() // images share layers
	defer lock.(*sync.Mutex).Unlock()
	if i.isStored(ctx, desc) {
		i.meter.Add(int(desc.Size))
		return nil
	}
	repo, err := i.repository(ctx)
	if err != nil {
		return err
	}
	return repo.FetchBlob(ctx, i.folder, desc, i.meter)
}
