// Package airgap owns the bundle: one tar file that is an OCI image layout and
// holds all that an install needs (docs/bundle.md). It opens a bundle for
// random access without unpacking it, gives its parts through readers that
// prove what they deliver, and verifies and describes the whole.
// It refuses files that are not exactly as plinth writes them, and it decides
// nothing about what belongs into a bundle. Making one is package build's job.
package airgap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/problem"
)

// Image is a container image of a bundle; Layers are in the order of its manifest.
type Image struct {
	Ref      string // full reference: docker.io/kotsadm/kotsadm:v1.131.2
	Version  string
	Manifest ocispec.Descriptor
	Config   ocispec.Descriptor
	Layers   []ocispec.Descriptor
	Size     int64 // bytes of manifest, config and layers as stored
	Unpacked int64 // bytes of all layers unpacked
}

// File is a file for the host, stored compressed.
type File = format.File

// Chart is a packaged Helm chart of a bundle.
type Chart struct{ Name, Version string }

// ContentSize tells, in bytes, what a bundle's content takes on a host. What
// several images share counts once.
type ContentSize struct {
	Stored   int64 `json:"stored"`   // image blobs as containerd stores them
	Unpacked int64 `json:"unpacked"` // image layers as containerd unpacks them
	Host     int64 `json:"host"`     // host files unpacked
}

// Total is what a host needs beyond the bundle file itself, in bytes.
func (c ContentSize) Total() int64 { return c.Stored + c.Unpacked + c.Host }

// Digest is the digest of the bundle: that of its index.json, which names
// every other byte by digest.
func (b *Bundle) Digest() digest.Digest { return b.digest }

// Name is metadata.name of the Installer inside.
func (b *Bundle) Name() string { return b.index.Annotations[ocispec.AnnotationTitle] }

// RawIndex is index.json as it stands in the file: the bytes that are signed.
// It must not be changed.
func (b *Bundle) RawIndex() []byte { return b.raw }

// Signature is that of RawIndex, NOT verified (package trust does); empty for none.
func (b *Bundle) Signature() []byte { return b.sig }

// Release is the number that the vendor gave to this release, 0 for none.
func (b *Bundle) Release() int64 { return b.label.release }

// Expires is the time after which the bundle is not taken any more, zero for never.
func (b *Bundle) Expires() time.Time { return b.label.expires }

// label is what the vendor wrote on the bundle.
type label struct {
	release int64
	expires time.Time
}

func readLabel(notes map[string]string) (l label, err error) {
	if text, ok := notes[format.AnnotationRelease]; ok {
		if l.release, err = strconv.ParseInt(text, 10, 64); err != nil || l.release < 1 {
			return l, fmt.Errorf("%q is not the number of a release", text)
		}
	}
	if text, ok := notes[format.AnnotationExpires]; ok {
		if l.expires, err = time.Parse(time.RFC3339, text); err != nil {
			return l, fmt.Errorf("%q is not a time to expire at", text)
		}
	}
	return l, nil
}

// Size is the size of the bundle file in bytes.
func (b *Bundle) Size() int64 { return b.size }

// Index is the parsed index.json; it is shared and must not be changed.
func (b *Bundle) Index() ocispec.Index { return b.index }

// Items lists everything in the bundle in its order; it must not be changed.
func (b *Bundle) Items() []format.Item { return b.items }

// Platform is what the host files and images are for, such as linux/amd64,
// or "" for a bundle that has none.
func (b *Bundle) Platform() string {
	for _, it := range b.items {
		if p := it.Platform(); p != "" {
			return p
		}
	}
	return ""
}

// Installer gives the bytes of installer.yaml.
func (b *Bundle) Installer(ctx context.Context) ([]byte, error) {
	data, _, err := b.small(ctx, format.KindInstaller, "")
	return data, err
}

// Application gives the bytes of the Application manifest, and whether the bundle has one.
func (b *Bundle) Application(ctx context.Context) (data []byte, found bool, err error) {
	return b.small(ctx, format.KindApplication, "")
}

// Chart gives a packaged Helm chart (.tgz).
func (b *Bundle) Chart(ctx context.Context, name string) ([]byte, error) {
	data, found, err := b.small(ctx, format.KindChart, name)
	if err == nil && !found {
		err = b.missing(format.KindChart, name)
	}
	return data, err
}

// small reads the single layer of the first item of that kind and name ("" is any).
func (b *Bundle) small(ctx context.Context, kind format.Kind, name string) (data []byte, found bool, err error) {
	for _, it := range b.items {
		if it.Kind == kind && (name == "" || it.Name == name) {
			data, err := blob.ReadAll(ctx, b, it.Layers[0].Descriptor, blob.MaxDocument)
			return data, true, err
		}
	}
	return nil, false, nil
}

// Origin gives the SBOM or the provenance as it stands in the bundle, and whether it has one.
func (b *Bundle) Origin(ctx context.Context, kind format.Kind) (data []byte, found bool, err error) {
	return b.small(ctx, kind, "")
}

// Charts lists the Helm charts in the bundle's order.
func (b *Bundle) Charts() []Chart {
	var charts []Chart
	for _, it := range b.items {
		if it.Kind == format.KindChart {
			charts = append(charts, Chart{it.Name, it.Version})
		}
	}
	return charts
}

// Images lists the container images in the bundle's order: that in which a
// starting cluster needs them.
func (b *Bundle) Images() []Image {
	var images []Image
	for _, it := range b.items {
		if it.Kind != format.KindImage {
			continue
		}
		img := Image{Ref: it.Name, Version: it.Version, Manifest: it.Manifest, Config: it.Config, Size: it.Size(), Unpacked: it.Unpacked()}
		for _, l := range it.Layers {
			img.Layers = append(img.Layers, l.Descriptor)
		}
		images = append(images, img)
	}
	return images
}

// HostFiles lists the files for the host in the bundle's order.
func (b *Bundle) HostFiles() []File {
	var files []File
	for _, it := range b.items {
		if it.Kind == format.KindHost {
			f, _ := it.File() // proved when the item was parsed
			files = append(files, f)
		}
	}
	return files
}

// OpenHostFile gives a host file unpacked. It fails at the end of the stream
// when compressed or unpacked content differ from what is declared, so a
// caller keeps nothing before it has seen io.EOF.
func (b *Bundle) OpenHostFile(ctx context.Context, name string) (io.ReadCloser, error) {
	for _, f := range b.HostFiles() {
		if f.Name != name {
			continue
		}
		if b.held != nil {
			return b.held.Open(ctx, ocispec.Descriptor{Digest: f.Digest, Size: f.Size})
		}
		packed, err := b.Open(ctx, f.Packed)
		if err != nil {
			return nil, err
		}
		plain, err := blob.Unpack(packed, f.Packed.MediaType)
		if err != nil {
			return nil, b.problem("read "+name+" from", err)
		}
		declared := ocispec.Descriptor{Digest: f.Digest, Size: f.Size}
		return blob.NewReader(ctx, plain, declared, name+" of bundle "+b.name), nil
	}
	return nil, b.missing(format.KindHost, name)
}

// Open gives a blob of the bundle through a verifying reader; see blob.NewReader.
func (b *Bundle) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if b.held != nil {
		return b.held.Open(ctx, desc)
	}
	if b.absent.has(desc.Digest) {
		return b.absent.open(ctx, desc, b.name)
	}
	section, err := b.Section(desc)
	if err != nil {
		return nil, err
	}
	return blob.NewReader(ctx, io.NopCloser(section), desc, "bundle "+b.name), nil
}

// Section gives random access to a blob's bytes as they stand in the file,
// NOT proved: for callers who check the digest themselves, such as
// containerd's content store.
func (b *Bundle) Section(desc ocispec.Descriptor) (*io.SectionReader, error) {
	s, err := b.find(desc)
	if err != nil {
		return nil, b.problem("read from", err)
	}
	return io.NewSectionReader(b.r, s.Off, s.Size), nil
}

// Unproved gives the blobs of a bundle as they stand in its file, without the
// proof that Open gives: for a reader that proves them itself. What is not in
// the file comes proved.
type Unproved struct{ *Bundle }

// Open gives a blob; see Unproved.
func (u Unproved) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if u.held != nil || u.absent.has(desc.Digest) {
		return u.Bundle.Open(ctx, desc)
	}
	section, err := u.Section(desc)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(section), nil
}

// ContentSize adds up what the content takes on a host, from the index alone.
func (b *Bundle) ContentSize() ContentSize {
	var sum ContentSize
	seen := map[digest.Digest]bool{}
	for _, it := range b.items {
		if it.Kind == format.KindHost {
			sum.Host += it.Layers[0].Unpacked
		}
		if it.Kind != format.KindImage {
			continue
		}
		for _, d := range it.Blobs() {
			if !seen[d.Digest] {
				sum.Stored += d.Size
			}
		}
		for _, l := range it.Layers {
			if !seen[l.Digest] {
				sum.Unpacked += l.Unpacked
			}
			seen[l.Digest] = true
		}
		seen[it.Config.Digest], seen[it.Manifest.Digest] = true, true
	}
	return sum
}

func (b *Bundle) missing(kind format.Kind, name string) error {
	return problem.Newf(problem.ExitBundle, fmt.Sprintf("find %s %s in bundle %s", kind, name, b.name),
		"build the bundle again with an Installer that asks for it", "the bundle has none of that name")
}

func (b *Bundle) problem(doing string, err error) error {
	var p *problem.Problem
	if errors.As(err, &p) {
		return err
	}
	return problem.New(problem.ExitBundle, doing+" bundle "+b.name, err,
		"the file is damaged or was altered: copy it again from where it was published and compare its sha256sum")
}
