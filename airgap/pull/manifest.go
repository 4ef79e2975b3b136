package pull

import (
	"cmp"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
)

// maxIndexDepth is how many manifests lead to an image at most: its own, and the
// indexes around it.
const maxIndexDepth = 3

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
	case ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, format.DockerIndex, format.DockerManifest:
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
