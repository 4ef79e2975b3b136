package build

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
)

// maxIndexDepth is how many indexes lead to an image at most.
const maxIndexDepth = 3

// expandIndexes replaces the entries of a layout that are indexes of one image, as
// `skopeo copy --all`, crane and docker write them, by the manifest for the platform.
// An image that does not exist for it is left out.
func expandIndexes(ctx context.Context, src blob.Source, have []ocispec.Descriptor, platform string) ([]ocispec.Descriptor, error) {
	os, arch, _ := strings.Cut(platform, "/")
	var all []ocispec.Descriptor
	for _, desc := range have {
		usable := true
		for range maxIndexDepth {
			if !format.IsIndex(desc.MediaType) {
				break
			}
			raw, err := blob.ReadAll(ctx, src, desc, limit.Document)
			if err != nil {
				return nil, err
			}
			child, err := format.SelectPlatform(raw, os, arch)
			if usable = err == nil; !usable {
				break
			}
			annotations := maps.Clone(child.Annotations)
			if annotations == nil {
				annotations = map[string]string{}
			}
			maps.Copy(annotations, desc.Annotations)
			child.Annotations, child.Platform.Variant = annotations, ""
			desc = child
		}
		if usable {
			all = append(all, desc)
		}
	}
	return all, nil
}

// canonicalName returns a reference with registry, namespace and tag: of "nginx:1" it
// is that of docker.io/library/nginx:1. A text without "/" and ":" is returned
// unchanged, because it can be a tag.
func canonicalName(text string) string {
	if !strings.ContainsAny(text, "/:@") {
		return text
	}
	ref, err := name.ParseReference(text)
	if err != nil {
		return text
	}
	return strings.Replace(ref.Name(), "index.docker.io/", "docker.io/", 1)
}

// describeUnnamed returns, for an error about missing images, how to name the entries
// of a layout that have a tag instead of a name; "" if there are none.
func describeUnnamed(have []ocispec.Descriptor) string {
	var unnamed []string
	for _, d := range have {
		if n := format.DescriptorName(d); format.DescriptorKind(d) == format.KindImage && !strings.ContainsAny(n, "/:@") {
			unnamed = append(unnamed, fmt.Sprintf("%.19s (%q)", d.Digest, n))
		}
	}
	if unnamed == nil {
		return ""
	}
	slices.Sort(unnamed)
	return "\nthese entries of its index.json are not named by an image: " + strings.Join(slices.Compact(unnamed), ", ") +
		"; the annotation " + format.AnnotationImageName + " or " + ocispec.AnnotationRefName + " of each must be the full reference, such as docker.io/library/nginx:1"
}
