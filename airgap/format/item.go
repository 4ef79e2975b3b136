package format

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/limit"
)

// Kind is the purpose of an item in a bundle.
type Kind string

// The kinds of items. A bundle has exactly one installer, at most one
// application, SBOM and provenance, and any number of the others.
const (
	KindInstaller   Kind = "installer"
	KindApplication Kind = "application"
	KindChart       Kind = "chart"
	KindHost        Kind = "host"
	KindImage       Kind = "image"
	KindSBOM        Kind = "sbom"       // one SPDX document for all images and host files
	KindProvenance  Kind = "provenance" // how each of them was built
)

// Item is one entry of a bundle's index with its parsed manifest.
type Item struct {
	Kind     Kind
	Name     string // full reference of an image, plain name of any other item
	Version  string
	Manifest ocispec.Descriptor
	Config   ocispec.Descriptor
	Layers   []Layer
}

// Layer is one blob of an item. Unpacked is its declared unpacked size in bytes,
// or -1 if none is declared.
type Layer struct {
	ocispec.Descriptor
	Unpacked int64
}

// HostFile is a file for the host, stored compressed.
type HostFile struct {
	Name, Version string
	Mode          fs.FileMode
	Digest        digest.Digest      // of the unpacked file
	Size          int64              // of the unpacked file, in bytes
	Packed        ocispec.Descriptor // the compressed blob
}

// Blobs returns all blobs of the item: manifest, config, layers.
func (it Item) Blobs() []ocispec.Descriptor {
	blobs := []ocispec.Descriptor{it.Manifest, it.Config}
	for _, l := range it.Layers {
		blobs = append(blobs, l.Descriptor)
	}
	return blobs
}

// ContentBlobs returns the blobs of the item that a thin bundle leaves out: the
// layers of images and host files. Manifests, configs and small items stay in it.
func (it Item) ContentBlobs() (blobs []ocispec.Descriptor) {
	if it.Kind == KindImage || it.Kind == KindHost {
		for _, l := range it.Layers {
			blobs = append(blobs, l.Descriptor)
		}
	}
	return blobs
}

// Size returns the stored size of the item's blobs in bytes.
func (it Item) Size() (sum int64) {
	for _, d := range it.Blobs() {
		sum += d.Size
	}
	return sum
}

// Unpacked returns the unpacked size of the item's layers in bytes. Layers
// without a declared size count as 0.
func (it Item) Unpacked() (sum int64) {
	for _, l := range it.Layers {
		sum += max(l.Unpacked, 0)
	}
	return sum
}

// Platform returns the platform of the item, such as linux/amd64, or "" if it
// fits every platform.
func (it Item) Platform() string {
	if p := it.Manifest.Platform; p != nil && (it.Kind == KindHost || it.Kind == KindImage) {
		return p.OS + "/" + p.Architecture
	}
	return ""
}

// DiffIDs returns the digests of an image's unpacked layers from its config. It
// fails if the config does not match the image's manifest or platform.
func (it Item) DiffIDs(config []byte) ([]digest.Digest, error) {
	var c ocispec.Image
	if err := limit.UnmarshalJSON(config, &c); err != nil {
		return nil, fmt.Errorf("config of %s: %w", it, err)
	}
	if len(c.RootFS.DiffIDs) != len(it.Layers) {
		return nil, fmt.Errorf("config of %s lists %d layers, its manifest has %d", it, len(c.RootFS.DiffIDs), len(it.Layers))
	}
	if p := it.Platform(); p != "" && p != c.OS+"/"+c.Architecture {
		return nil, fmt.Errorf("%s is for %s/%s, the index says %s", it, c.OS, c.Architecture, p)
	}
	return c.RootFS.DiffIDs, nil
}

// String returns the kind and the name of the item.
func (it Item) String() string { return string(it.Kind) + " " + it.Name }

// ParseItem returns the item for desc, a descriptor in an index, and the content
// of its manifest. A descriptor that has a name but no kind is an image, because
// other tools write layouts that way.
func ParseItem(desc ocispec.Descriptor, manifest []byte) (Item, error) {
	it := Item{Kind: DescriptorKind(desc), Name: DescriptorName(desc), Version: desc.Annotations[ocispec.AnnotationVersion], Manifest: desc}
	if err := it.checkName(); err != nil {
		return it, err
	}
	var m ocispec.Manifest
	if err := limit.UnmarshalJSON(manifest, &m); err != nil {
		return it, fmt.Errorf("manifest of %s: %w", it, err)
	}
	if m.SchemaVersion != 2 || (m.MediaType != "" && m.MediaType != desc.MediaType) {
		return it, fmt.Errorf("manifest of %s must have schema version 2 and the media type %s from the index", it, desc.MediaType)
	}
	it.Config = m.Config
	for _, l := range m.Layers {
		it.Layers = append(it.Layers, Layer{l, -1})
	}
	for _, d := range it.Blobs() {
		if err := blob.CheckDescriptor(d); err != nil {
			return it, fmt.Errorf("%s: %w", it, err)
		}
	}
	return it, it.checkLayers()
}

// DescriptorKind returns the kind that the index gives to desc; the default is KindImage.
func DescriptorKind(desc ocispec.Descriptor) Kind {
	if kind := desc.Annotations[AnnotationKind]; kind != "" {
		return Kind(kind)
	}
	return KindImage
}

// DescriptorName returns the name that the index gives to desc: for an image its
// full reference; for any other kind the title, or the reference name without
// the kind prefix ("host/k0s"). The index of a bundle has no titles, because oras
// would treat the manifest as a second file of that name.
func DescriptorName(desc ocispec.Descriptor) string {
	kind, ref := DescriptorKind(desc), desc.Annotations[ocispec.AnnotationRefName]
	if kind == KindImage {
		return cmp.Or(desc.Annotations[AnnotationImageName], ref)
	}
	return cmp.Or(desc.Annotations[ocispec.AnnotationTitle], strings.TrimPrefix(ref, string(kind)+"/"))
}

// checkName verifies that the name is safe to print on a terminal and, except for
// images, safe as a file name.
func (it Item) checkName() error {
	extra := "._-"
	if it.Kind == KindImage {
		extra = "._-/:@"
	}
	invalid := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && !strings.ContainsRune(extra, r)
	}
	if it.Name == "" || len(it.Name) > 512 || strings.Contains(extra, it.Name[:1]) || strings.ContainsFunc(it.Name, invalid) {
		return fmt.Errorf("%s %s has the invalid name %q", it.Kind, it.Manifest.Digest, it.Name)
	}
	if it.Kind == KindImage && !strings.Contains(it.Name, "/") {
		return fmt.Errorf("image %q is not named by its full reference, such as docker.io/library/%s", it.Name, it.Name)
	}
	return nil
}

// checkLayers verifies that the item has the layers that its kind requires, and
// fills in their unpacked sizes.
func (it Item) checkLayers() error {
	single := func(mediaType string) error {
		if len(it.Layers) != 1 || it.Layers[0].MediaType != mediaType {
			return fmt.Errorf("%s must have exactly one layer, of type %s", it, mediaType)
		}
		return nil
	}
	switch it.Kind {
	case KindInstaller:
		return single(TypeInstaller)
	case KindApplication:
		return single(TypeApplication)
	case KindChart:
		return single(TypeChart)
	case KindSBOM:
		return single(TypeSBOM)
	case KindProvenance:
		return single(TypeProvenance)
	case KindHost:
		if err := single(TypeFile); err != nil {
			return err
		}
		file, err := it.HostFile()
		it.Layers[0].Unpacked = file.Size
		return err
	case KindImage:
		return it.checkImage()
	}
	return fmt.Errorf("%s has a kind that this version of plinth does not support", it)
}

// checkImage verifies the media types of an image's layers and fills in the
// unpacked sizes that the index declares.
func (it Item) checkImage() error {
	for _, l := range it.Layers {
		switch l.MediaType {
		case ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
			"application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar":
		default:
			return fmt.Errorf("%s has a layer of the unknown type %q", it, l.MediaType)
		}
	}
	declared, ok := it.Manifest.Annotations[AnnotationSizes]
	if !ok {
		return nil
	}
	sizes := strings.FieldsFunc(declared, func(r rune) bool { return r == ',' })
	if len(sizes) != len(it.Layers) {
		return fmt.Errorf("%s declares %d unpacked sizes for %d layers", it, len(sizes), len(it.Layers))
	}
	for i, text := range sizes {
		n, err := parseSize(text)
		if err != nil {
			return fmt.Errorf("%s: %w", it, err)
		}
		it.Layers[i].Unpacked = n
	}
	return nil
}

// parseSize returns the size in bytes in text, an annotation.
func parseSize(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > limit.Blob {
		return -1, fmt.Errorf("%q is not an unpacked size of up to %d bytes", text, int64(limit.Blob))
	}
	return n, nil
}

// HostFile returns the host file that the item's only layer describes.
func (it Item) HostFile() (HostFile, error) {
	a := it.Layers[0].Annotations
	size, err := parseSize(a[AnnotationSize])
	mode, modeErr := strconv.ParseUint(a[AnnotationMode], 8, 32)
	if modeErr != nil || mode > 0o777 {
		err = errors.Join(err, fmt.Errorf("%q is not a file mode", a[AnnotationMode]))
	}
	f := HostFile{Name: it.Name, Version: it.Version, Mode: fs.FileMode(mode), Packed: it.Layers[0].Descriptor,
		Digest: digest.Digest(a[AnnotationDigest]), Size: size}
	if checkErr := blob.CheckDescriptor(ocispec.Descriptor{Digest: f.Digest}); checkErr != nil {
		err = errors.Join(err, fmt.Errorf("unpacked digest: %w", checkErr))
	}
	if err != nil {
		return HostFile{Size: -1}, fmt.Errorf("%s: %w", it, err)
	}
	return f, nil
}
