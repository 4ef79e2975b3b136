package build

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
)

// prepareArchive returns the archive of a request: it selects the content, verifies
// it, adds the SBOM and provenance, and signs the index.
func prepareArchive(ctx context.Context, req Request) (Archive, error) {
	if req.Name == "" || len(req.Installer) == 0 {
		return Archive{}, errors.New("the bundle has no Installer with a metadata.name")
	}
	folder, wanted, err := openLayout(ctx, req)
	if err != nil {
		return Archive{}, err
	}
	overlay := overlaySource{folder: folder, blobs: map[digest.Digest][]byte{}}
	own, err := overlay.addDocuments(req)
	if err != nil {
		return Archive{}, err
	}
	items, err := readItems(ctx, overlay, append(own, wanted...))
	if err != nil {
		return Archive{}, err
	}
	layers := packedLayers(items)
	total := totalSize(allBlobs(items)) + 2*totalSize(layers) // each layer is unpacked twice, each blob is copied once
	src := blob.WithProgress(overlay, blob.NewProgress(total, req.Progress))
	unpacked, err := measureLayers(ctx, src, layers)
	if err != nil {
		return Archive{}, err
	}
	if err := verifyUnpacked(ctx, overlay, items, unpacked); err != nil {
		return Archive{}, err
	}
	about, err := originBuilder{req, overlay, src}.addOriginItems(ctx, items)
	if err != nil {
		return Archive{}, err
	}
	items = append(items, about...)
	done := Archive{Blobs: allBlobs(items), Source: src}
	if req.Thin {
		done.Blobs = thinBlobs(items)
	}
	if done.Index, err = marshalIndex(req, items); err == nil && req.Sign != nil {
		done.Signature, err = req.Sign(done.Index)
	}
	return done, err
}

// selectManifests returns the descriptors of what the request names, out of the
// source's index. It reports everything that is missing, with the available
// versions.
func selectManifests(have []ocispec.Descriptor, req Request, platform string) ([]ocispec.Descriptor, error) {
	byName := map[string]ocispec.Descriptor{}
	for _, desc := range have {
		if p := desc.Platform; p != nil && p.OS+"/"+p.Architecture != platform {
			continue
		}
		key := itemKey(format.DescriptorKind(desc), format.DescriptorName(desc), desc.Annotations[ocispec.AnnotationVersion])
		byName[key] = desc
	}
	var keys []string
	named := map[string]string{} // the reference in the request by key
	for _, f := range req.HostFiles {
		keys = append(keys, itemKey(format.KindHost, f.Name, f.Version))
	}
	for _, ref := range req.Images {
		key := itemKey(format.KindImage, ref, "")
		keys, named[key] = append(keys, key), ref
	}
	var found []ocispec.Descriptor
	var missing []string
	for i, key := range keys {
		desc, ok := byName[key]
		switch {
		case slices.Contains(keys[:i], key): // two add-ons request it
		case ok:
			found = append(found, withPlatform(desc, platform, named[key]))
		default:
			user := ""
			if by := req.ImageUsers[named[key]]; by != "" {
				user = ", which " + by + " needs"
			}
			missing = append(missing, key+user+similarItems(key, byName))
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("this is missing in the source %s for platform %s:\n%s", req.Layout, platform, strings.Join(missing, "\n")+describeUnnamed(have))
	}
	return found, nil
}

// itemKey returns the key by which an item is looked up: an image's reference, or
// kind, name and version of anything else.
func itemKey(kind format.Kind, name, version string) string {
	if kind == format.KindImage {
		return "image " + canonicalName(name)
	}
	return fmt.Sprintf("%s %s %s", kind, name, version)
}

// similarItems returns, for a key that is missing, a note that lists the available
// versions of the same item; "" if there are none.
func similarItems(key string, have map[string]ocispec.Descriptor) string {
	stem := func(key string) string {
		return key[:max(strings.LastIndexAny(key, ":@ "), strings.LastIndex(key, "/"))]
	}
	var others []string
	for other := range have {
		if stem(other) == stem(key) {
			others = append(others, strings.TrimPrefix(other, "image "))
		}
	}
	if others == nil {
		return ""
	}
	slices.Sort(others)
	return " (available: " + strings.Join(others, ", ") + ")"
}

// withPlatform returns the descriptor for the bundle's index: with explicit kind
// and platform, and with the annotations of the source's descriptor. image is its
// name if it is an image.
func withPlatform(desc ocispec.Descriptor, platform, image string) ocispec.Descriptor {
	os, arch, _ := strings.Cut(platform, "/")
	out := ocispec.Descriptor{MediaType: desc.MediaType, ArtifactType: desc.ArtifactType, Digest: desc.Digest, Size: desc.Size,
		Platform: &ocispec.Platform{OS: os, Architecture: arch}, Annotations: map[string]string{}}
	for k, v := range desc.Annotations {
		out.Annotations[k] = v
	}
	kind, name := format.DescriptorKind(desc), format.DescriptorName(desc)
	out.Annotations[format.AnnotationKind] = string(kind)
	out.Annotations[ocispec.AnnotationRefName] = name
	if kind == format.KindImage {
		out.Annotations[ocispec.AnnotationRefName], out.Annotations[format.AnnotationImageName] = image, image
	} else {
		out.Annotations[ocispec.AnnotationRefName] = string(kind) + "/" + name
		delete(out.Annotations, ocispec.AnnotationTitle)
	}
	return out
}

// readItems returns the items of the descriptors' manifests; it reports all that
// cannot be read or parsed.
func readItems(ctx context.Context, src blob.Source, descs []ocispec.Descriptor) ([]format.Item, error) {
	var items []format.Item
	var errs []error
	for _, desc := range descs {
		manifest, err := blob.ReadAll(ctx, src, desc, limit.Document)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", format.DescriptorName(desc), err))
			continue
		}
		it, err := format.ParseItem(desc, manifest)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		items = append(items, it)
	}
	return items, errors.Join(errs...)
}

// allBlobs returns every blob once: first what describes the bundle, then the
// content of images and host files. So a reader of a pipe knows the bundle after
// its beginning.
func allBlobs(items []format.Item) []ocispec.Descriptor {
	var content []ocispec.Descriptor
	for _, it := range items {
		content = append(content, it.ContentBlobs()...)
	}
	return uniqueBlobs(slices.Concat(thinBlobs(items), content))
}

// thinBlobs returns allBlobs without the content of images and host files:
// manifests and configs, then the other layers in the order of the items.
func thinBlobs(items []format.Item) []ocispec.Descriptor {
	var blobs []ocispec.Descriptor
	for _, it := range items {
		blobs = append(blobs, it.Manifest, it.Config)
	}
	for _, it := range items {
		if len(it.ContentBlobs()) > 0 {
			continue
		}
		for _, l := range it.Layers {
			blobs = append(blobs, l.Descriptor)
		}
	}
	return uniqueBlobs(blobs)
}

// uniqueBlobs returns blobs without repetitions, in order of first occurrence.
func uniqueBlobs(blobs []ocispec.Descriptor) []ocispec.Descriptor {
	seen := map[digest.Digest]bool{}
	return slices.DeleteFunc(blobs, func(d ocispec.Descriptor) bool {
		was := seen[d.Digest]
		seen[d.Digest] = true
		return was
	})
}

// unpackedContent is the digest and size in bytes of an unpacked layer.
type unpackedContent struct {
	digest digest.Digest
	size   int64
}

// verifyUnpacked verifies the content of unpacked layers against the images' configs
// and the host files' annotations. It also records the unpacked sizes of the
// images' layers in their descriptors. It reports all mismatches.
func verifyUnpacked(ctx context.Context, src blob.Source, items []format.Item, unpacked map[digest.Digest]unpackedContent) error {
	var errs []error
	for _, it := range items {
		switch it.Kind {
		case format.KindHost:
			errs = append(errs, verifyHostFile(it, unpacked))
		case format.KindImage:
			errs = append(errs, verifyImage(ctx, src, it, unpacked))
		}
	}
	return errors.Join(errs...)
}

// verifyHostFile verifies an unpacked host file against its annotations.
func verifyHostFile(it format.Item, unpacked map[digest.Digest]unpackedContent) error {
	f, err := it.HostFile()
	if got := unpacked[it.Layers[0].Digest]; err == nil && got != (unpackedContent{f.Digest, f.Size}) {
		err = fmt.Errorf("%s unpacks to %s (%d bytes), but its annotations declare %s (%d bytes)", it, got.digest, got.size, f.Digest, f.Size)
	}
	return err
}

// verifyImage verifies the unpacked layers of an image against its config and
// records their sizes in the image's descriptor.
func verifyImage(ctx context.Context, src blob.Source, it format.Item, unpacked map[digest.Digest]unpackedContent) error {
	config, err := blob.ReadAll(ctx, src, it.Config, limit.Document)
	if err != nil {
		return fmt.Errorf("%s: %w", it, err)
	}
	diffIDs, err := it.DiffIDs(config)
	if err != nil {
		return err
	}
	var errs []error
	var sizes []string
	for i, id := range diffIDs {
		got := unpacked[it.Layers[i].Digest]
		if got.digest != id {
			errs = append(errs, fmt.Errorf("layer %d of %s unpacks to %s, but its config declares %s", i+1, it, got.digest, id))
		}
		sizes = append(sizes, strconv.FormatInt(got.size, 10))
	}
	it.Manifest.Annotations[format.AnnotationSizes] = strings.Join(sizes, ",")
	return errors.Join(errs...)
}

// packedLayers returns the layers of host files and images, each once, the largest
// first: otherwise a large layer could be left for the end and use only one CPU.
func packedLayers(items []format.Item) []ocispec.Descriptor {
	var layers []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, it := range items {
		for _, l := range it.Layers {
			if (it.Kind == format.KindHost || it.Kind == format.KindImage) && !seen[l.Digest] {
				layers = append(layers, l.Descriptor)
				seen[l.Digest] = true
			}
		}
	}
	slices.SortStableFunc(layers, func(x, y ocispec.Descriptor) int { return cmp.Compare(y.Size, x.Size) })
	return layers
}

// totalSize returns the sum of the sizes of the blobs in bytes.
func totalSize(descs []ocispec.Descriptor) (n int64) {
	for _, desc := range descs {
		n += desc.Size
	}
	return n
}

// measureLayers unpacks the layers on up to 4 CPUs and returns the digests and
// sizes of their content; it reports all failures.
func measureLayers(ctx context.Context, src blob.Source, layers []ocispec.Descriptor) (map[digest.Digest]unpackedContent, error) {
	results, wrong := make([]unpackedContent, len(layers)), make([]error, len(layers))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(min(runtime.GOMAXPROCS(0), 4))
	for i, desc := range layers {
		group.Go(func() error {
			results[i].digest, results[i].size, wrong[i] = blob.Measure(groupCtx, src, desc)
			return groupCtx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	unpacked := map[digest.Digest]unpackedContent{}
	for i, desc := range layers {
		unpacked[desc.Digest] = results[i]
	}
	return unpacked, errors.Join(wrong...)
}

// marshalIndex returns index.json, indented so that users can read it in a terminal.
func marshalIndex(req Request, items []format.Item) ([]byte, error) {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Annotations: map[string]string{
		format.AnnotationBundle: format.V1,
		ocispec.AnnotationTitle: req.Name,
	}}
	if req.Release > 0 {
		index.Annotations[format.AnnotationRelease] = strconv.FormatInt(req.Release, 10)
	}
	if !req.Expires.IsZero() {
		index.Annotations[format.AnnotationExpires] = req.Expires.UTC().Format(time.RFC3339)
	}
	if len(req.Programs) > 0 {
		text, err := format.FormatPrograms(req.Programs)
		if err != nil {
			return nil, err
		}
		index.Annotations[format.AnnotationPrograms] = text
	}
	index.SchemaVersion = 2
	for _, it := range items {
		index.Manifests = append(index.Manifests, it.Manifest)
	}
	raw, err := json.MarshalIndent(index, "", "  ")
	if err == nil && len(raw) >= limit.Document {
		err = fmt.Errorf("the index has %d bytes, the limit is %d", len(raw), limit.Document)
	}
	return append(raw, '\n'), err
}
