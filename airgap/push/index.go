package push

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
)

// uploadTag makes a tag lead to the manifest of an image, which the repository has. A tag that does
// so already stays as it is. Otherwise it becomes an index that keeps the other platforms of the
// index that the tag named before.
func (u *uploader) uploadTag(ctx context.Context, repo *fetch.Repository, it format.Item, tag string) error {
	before, err := repo.FetchManifest(ctx, tag)
	if err != nil && !fetch.IsNotFound(err) {
		return err
	}
	if err == nil && u.leadsTo(before, it.Manifest.Digest) {
		return nil
	}
	index, err := addPlatform(before.Data, it.Manifest, u.platform)
	if err != nil {
		return err
	}
	return repo.UploadManifest(ctx, tag, index)
}

// leadsTo reports whether a manifest is the wanted one, or an index with it for the platform.
func (u *uploader) leadsTo(doc fetch.Document, want digest.Digest) bool {
	if digest.FromBytes(doc.Data) == want {
		return true
	}
	child, err := format.SelectPlatform(doc.Data, u.platform.OS, u.platform.Architecture)
	return err == nil && child.Digest == want
}

// addPlatform returns an index with a manifest for a platform, and the manifests of a former index
// for other platforms. A former document that is not an index, or nil, has none.
func addPlatform(former []byte, manifest ocispec.Descriptor, platform ocispec.Platform) (fetch.Document, error) {
	var index ocispec.Index
	if limit.UnmarshalJSON(former, &index) != nil {
		index = ocispec.Index{}
	}
	kept := slices.DeleteFunc(index.Manifests, func(d ocispec.Descriptor) bool {
		return d.Platform == nil || d.Platform.OS == "unknown" || platformName(d) == platform.OS+"/"+platform.Architecture
	})
	added := ocispec.Descriptor{MediaType: manifest.MediaType, Digest: manifest.Digest, Size: manifest.Size, Platform: &platform}
	index = ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: append(kept, added)}
	index.SchemaVersion = 2
	slices.SortStableFunc(index.Manifests, func(a, b ocispec.Descriptor) int { return strings.Compare(platformName(a), platformName(b)) })
	data, err := json.Marshal(index)
	return fetch.Document{Data: data, MediaType: index.MediaType}, err
}

func platformName(d ocispec.Descriptor) string { return d.Platform.OS + "/" + d.Platform.Architecture }

// uploadPinned uploads the index that a reference names by its digest, if it does not name the
// manifest itself. Many registries accept an index only with the manifests of all its platforms.
func (u *uploader) uploadPinned(ctx context.Context, repo *fetch.Repository, it format.Item, pinned digest.Digest) error {
	if pinned == it.Manifest.Digest {
		return nil
	}
	size, ok := u.folder.Find(pinned)
	if !ok {
		return fmt.Errorf("its index %s is not in %s", pinned, u.folder.Dir())
	}
	doc, err := u.document(ctx, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: pinned, Size: size})
	if err != nil {
		return err
	}
	var declared struct {
		MediaType string `json:"mediaType"`
	}
	if limit.UnmarshalJSON(doc.Data, &declared) == nil && format.IsIndex(declared.MediaType) {
		doc.MediaType = declared.MediaType
	}
	err = repo.UploadManifest(ctx, pinned.String(), doc)
	if fetch.IsRefused(err) && !fetch.IsUnauthorized(err) {
		return fmt.Errorf("%w; the registry needs the other platforms of this index, which are not downloaded: "+
			"pin the image by its tag, or by the digest of its manifest for %s/%s, %s", err, u.platform.OS, u.platform.Architecture, it.Manifest.Digest)
	}
	return err
}
