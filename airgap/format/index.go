package format

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/limit"
)

// Media types of Docker's manifests, which OCI adopted under other names.
const (
	DockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// IsIndex reports whether a media type is that of an index of manifests, such as of
// one image for several platforms.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerIndex
}

// SelectPlatform returns the descriptor for a platform in an index. One without a
// variant is preferred to one with. Attestations of buildkit are ignored.
func SelectPlatform(index []byte, os, arch string) (ocispec.Descriptor, error) {
	var parsed ocispec.Index
	if err := limit.UnmarshalJSON(index, &parsed); err != nil {
		return ocispec.Descriptor{}, err
	}
	var found []ocispec.Descriptor
	var others []string
	for _, m := range parsed.Manifests {
		switch p := m.Platform; {
		case p == nil || p.OS == "unknown":
		case p.OS != os || p.Architecture != arch:
			others = append(others, p.OS+"/"+p.Architecture)
		default:
			found = append(found, m)
		}
	}
	if found == nil {
		slices.Sort(others)
		return ocispec.Descriptor{}, fmt.Errorf("the image does not exist for %s/%s, only for: %s", os, arch, cmp.Or(strings.Join(slices.Compact(others), ", "), "no platform"))
	}
	best := found[max(slices.IndexFunc(found, func(d ocispec.Descriptor) bool { return d.Platform.Variant == "" }), 0)]
	return best, blob.CheckDescriptor(best)
}
