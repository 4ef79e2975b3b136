package pull

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/limit"
)

// maxIndexDepth is how many manifests lead to an image at most: its own, and the
// indexes around it.
const maxIndexDepth = 3

// Media types of Docker's manifests, which OCI adopted under other names.
const (
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// manifestType returns the media type of a manifest: the one in the document, or
// the one that the server declares. It fails for anything that is not an image of
// schema version 2 or an index.
func manifestType(doc fetch.Document) (string, error) {
	var m struct {
		SchemaVersion int    `json:"schemaVersion"`
		MediaType     string `json:"mediaType"`
	}
	if err := limit.UnmarshalJSON(doc.Data, &m); err != nil {
		return "", fmt.Errorf("the registry does not answer with a manifest: %w", err)
	}
	if m.SchemaVersion == 1 {
		return "", fmt.Errorf("the image has a manifest of schema version 1, which containerd does not read: push it again with a current docker or skopeo")
	}
	kind := cmp.Or(m.MediaType, doc.MediaType)
	switch kind {
	case ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerIndex, dockerManifest:
		return kind, nil
	}
	return guessManifestType(doc.Data), nil
}

// guessManifestType returns the OCI media type of a manifest that declares none.
func guessManifestType(data []byte) string {
	var m struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := limit.UnmarshalJSON(data, &m); err == nil && m.Manifests != nil {
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

// selectPlatform returns the digest of the manifest for a platform in an index, or
// "" if doc is no index. An entry without a variant is preferred to one with.
func selectPlatform(doc fetch.Document, os, arch string) (digest.Digest, error) {
	if doc.MediaType != ocispec.MediaTypeImageIndex && doc.MediaType != dockerIndex {
		return "", nil
	}
	var index ocispec.Index
	if err := limit.UnmarshalJSON(doc.Data, &index); err != nil {
		return "", err
	}
	var found, others []string
	for _, m := range index.Manifests {
		p := m.Platform
		if p == nil || p.OS == "unknown" { // an attestation of buildkit
			continue
		}
		if err := blob.CheckDescriptor(m); err != nil {
			return "", err
		}
		switch {
		case p.OS != os || p.Architecture != arch:
			others = append(others, p.OS+"/"+p.Architecture)
		case p.Variant == "":
			return m.Digest, nil
		default:
			found = append(found, m.Digest.String())
		}
	}
	if found != nil {
		return digest.Digest(found[0]), nil
	}
	slices.Sort(others)
	return "", fmt.Errorf("the image does not exist for %s/%s, only for: %s", os, arch, cmp.Or(strings.Join(slices.Compact(others), ", "), "no platform"))
}
