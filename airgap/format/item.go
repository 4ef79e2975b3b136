package format

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
)

// Kind tells what an item of a bundle is for.
type Kind string

// The kinds of items. A bundle has exactly one installer, at most one
// application, SBOM and provenance, and any number of the others.
const (
	KindInstaller   Kind = "installer"
	KindApplication Kind = "application"
	KindChart       Kind = "chart"
	KindHost        Kind = "host"
	KindImage       Kind = "image"
	KindSBOM        Kind = "sbom"       // one SPDX document of all images and host files
	KindProvenance  Kind = "provenance" // how each of them came to be
)

// Item is one entry of a bundle's index with its parsed manifest.
type Item struct {
	Kind     Kind
	Name     string // full reference of an image, plain name of anything else
	Version  string
	Manifest ocispec.Descriptor
	Config   ocispec.Descriptor
	Layers   []Layer
}

// Layer is one blob of an item; Unpacked is the size in bytes it declares to
// have unpacked, -1 when it declares none.
type Layer struct {
	ocispec.Descriptor
	Unpacked int64
}

// File is a file for the host, stored compressed.
type File struct {
	Name, Version string
	Mode          fs.FileMode
	Digest        digest.Digest      // of the file itself
	Size          int64              // of the file itself, in bytes
	Packed        ocispec.Descriptor // the compressed blob
}

// Blobs lists what the item consists of: manifest, config, layers.
func (it Item) Blobs() []ocispec.Descriptor {
	blobs := []ocispec.Descriptor{it.Manifest, it.Config}
	for _, l := range it.Layers {
		blobs = append(blobs, l.Descriptor)
	}
	return blobs
}

// Bulk lists what a thin bundle leaves out of the item: the content of images
// and host files. What is small, and what it takes to know the bundle, stays.
func (it Item) Bulk() (blobs []ocispec.Descriptor) {
	if it.Kind == KindImage || it.Kind == KindHost {
		for _, l := range it.Layers {
			blobs = append(blobs, l.Descriptor)
		}
	}
	return blobs
}

// Size is what the item's blobs take as stored, in bytes.
func (it Item) Size() (sum int64) {
	for _, d := range it.Blobs() {
		sum += d.Size
	}
	return sum
}

// Unpacked is what the item's layers take unpacked, in bytes, as far as they declare it.
func (it Item) Unpacked() (sum int64) {
	for _, l := range it.Layers {
		sum += max(l.Unpacked, 0)
	}
	return sum
}

// Platform is what the item is for, such as linux/amd64, or "" when it fits all.
func (it Item) Platform() string {
	if p := it.Manifest.Platform; p != nil && (it.Kind == KindHost || it.Kind == KindImage) {
		return p.OS + "/" + p.Architecture
	}
	return ""
}

// DiffIDs reads the digests of an image's unpacked layers from its config,
// which must fit the image's manifest and platform.
func (it Item) DiffIDs(config []byte) ([]digest.Digest, error) {
	var c ocispec.Image
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("config of %s: %w", it, err)
	}
	if len(c.RootFS.DiffIDs) != len(it.Layers) {
		return nil, fmt.Errorf("config of %s knows %d layers, its manifest has %d", it, len(c.RootFS.DiffIDs), len(it.Layers))
	}
	if p := it.Platform(); p != "" && p != c.OS+"/"+c.Architecture {
		return nil, fmt.Errorf("%s is for %s/%s, the index says %s", it, c.OS, c.Architecture, p)
	}
	return c.RootFS.DiffIDs, nil
}

// String names the item for a person.
func (it Item) String() string { return string(it.Kind) + " " + it.Name }

// ParseItem reads the manifest that desc, a descriptor of an index, names.
// A descriptor without a kind is an image if it has a name: that is how other
// tools write layouts.
func ParseItem(desc ocispec.Descriptor, manifest []byte) (Item, error) {
	it := Item{Kind: DescriptorKind(desc), Name: DescriptorName(desc), Version: desc.Annotations[ocispec.AnnotationVersion], Manifest: desc}
	if err := it.checkName(); err != nil {
		return it, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return it, fmt.Errorf("manifest of %s: %w", it, err)
	}
	if m.SchemaVersion != 2 || (m.MediaType != "" && m.MediaType != desc.MediaType) {
		return it, fmt.Errorf("manifest of %s is not the %s that the index says", it, desc.MediaType)
	}
	it.Config = m.Config
	for _, l := range m.Layers {
		it.Layers = append(it.Layers, Layer{l, -1})
	}
	for _, d := range it.Blobs() {
		if err := blob.Check(d); err != nil {
			return it, fmt.Errorf("%s: %w", it, err)
		}
	}
	return it, it.checkLayers()
}

// DescriptorKind is the kind an index gives to a descriptor.
func DescriptorKind(desc ocispec.Descriptor) Kind {
	if kind := desc.Annotations[AnnotationKind]; kind != "" {
		return Kind(kind)
	}
	return KindImage
}

// DescriptorName is the name an index gives to a descriptor: the full
// reference of an image; for anything else the title, or the reference name
// without the kind in front ("host/k0s"). A bundle has no titles in its index:
// oras would take the manifest for a second file of that name.
func DescriptorName(desc ocispec.Descriptor) string {
	kind, ref := DescriptorKind(desc), desc.Annotations[ocispec.AnnotationRefName]
	if kind == KindImage {
		return cmp.Or(desc.Annotations[AnnotationImageName], ref)
	}
	return cmp.Or(desc.Annotations[ocispec.AnnotationTitle], strings.TrimPrefix(ref, string(kind)+"/"))
}

// checkName lets names through that are safe as a file name (not for images)
// and on a terminal.
func (it Item) checkName() error {
	extra := "._-"
	if it.Kind == KindImage {
		extra = "._-/:@"
	}
	illegal := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && !strings.ContainsRune(extra, r)
	}
	if it.Name == "" || len(it.Name) > 512 || strings.Contains(extra, it.Name[:1]) || strings.ContainsFunc(it.Name, illegal) {
		return fmt.Errorf("%s %s has the illegal name %q", it.Kind, it.Manifest.Digest, it.Name)
	}
	if it.Kind == KindImage && !strings.Contains(it.Name, "/") {
		return fmt.Errorf("image %q is not named by its full reference, such as docker.io/library/%s", it.Name, it.Name)
	}
	return nil
}

// checkLayers holds an item against the shape that its kind must have and
// fills the unpacked sizes in.
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
		file, err := it.File()
		it.Layers[0].Unpacked = file.Size
		return err
	case KindImage:
		return it.checkImage()
	}
	return fmt.Errorf("%s is of a kind that this version of plinth does not know", it)
}

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

func parseSize(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return -1, fmt.Errorf("%q is not an unpacked size", text)
	}
	return n, nil
}

// File reads what a host file's layer says about it.
func (it Item) File() (File, error) {
	a := it.Layers[0].Annotations
	size, err := parseSize(a[AnnotationSize])
	mode, modeErr := strconv.ParseUint(a[AnnotationMode], 8, 32)
	if modeErr != nil || mode > 0o777 {
		err = errors.Join(err, fmt.Errorf("%q is not a file mode", a[AnnotationMode]))
	}
	f := File{Name: it.Name, Version: it.Version, Mode: fs.FileMode(mode), Packed: it.Layers[0].Descriptor,
		Digest: digest.Digest(a[AnnotationDigest]), Size: size}
	if checkErr := blob.Check(ocispec.Descriptor{Digest: f.Digest}); checkErr != nil {
		err = errors.Join(err, fmt.Errorf("unpacked digest: %w", checkErr))
	}
	if err != nil {
		return File{Size: -1}, fmt.Errorf("%s: %w", it, err)
	}
	return f, nil
}
