// Package airgap opens, verifies and describes bundles. A bundle is one tar file in
// the OCI image layout that contains everything an install needs (docs/reference/bundle-format.md).
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
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
)

// Image is a container image in a bundle. Layers are in the order of its manifest.
type Image struct {
	Ref      string // full reference: docker.io/kotsadm/kotsadm:v1.131.2
	Version  string
	Manifest ocispec.Descriptor
	Config   ocispec.Descriptor
	Layers   []ocispec.Descriptor
	Size     int64 // bytes of manifest, config and layers as stored
	Unpacked int64 // bytes of all layers when unpacked
}

// HostFile is a file for the host, stored compressed.
type HostFile = format.HostFile

// Chart identifies a packaged Helm chart in a bundle.
type Chart struct{ Name, Version string }

// ContentSize is the disk space in bytes that a bundle's content needs on a
// host. Blobs that several images share are counted once.
type ContentSize struct {
	Stored   int64 `json:"stored"`   // image blobs as containerd stores them
	Unpacked int64 `json:"unpacked"` // image layers as containerd unpacks them
	Host     int64 `json:"host"`     // unpacked host files
}

// Total returns the bytes that a host needs in addition to the bundle file itself.
func (c ContentSize) Total() int64 { return c.Stored + c.Unpacked + c.Host }

// Digest returns the digest of the bundle's index.json. It identifies the
// bundle, because the index references all other content by digest.
func (b *Bundle) Digest() digest.Digest { return b.digest }

// Name returns metadata.name of the bundle's Installer.
func (b *Bundle) Name() string { return b.index.Annotations[ocispec.AnnotationTitle] }

// RawIndex returns index.json as stored in the file: the bytes that are signed.
// The caller must not modify it.
func (b *Bundle) RawIndex() []byte { return b.rawIndex }

// Signature returns the signature of RawIndex, or an empty slice if the bundle
// is not signed. It is NOT verified here; package trust does that.
func (b *Bundle) Signature() []byte { return b.signature }

// Release returns the vendor's release number, or 0 if there is none.
func (b *Bundle) Release() int64 { return b.releaseInfo.release }

// Expires returns the time after which the bundle is refused; zero means never.
func (b *Bundle) Expires() time.Time { return b.releaseInfo.expires }

// Programs returns the executables of Plinth that nodes may take when they are upgraded to this bundle.
func (b *Bundle) Programs() []format.Program { return b.releaseInfo.programs }

// releaseInfo is what the vendor's annotations on the index declare.
type releaseInfo struct {
	release  int64
	expires  time.Time
	programs []format.Program
}

func parseReleaseInfo(notes map[string]string) (l releaseInfo, err error) {
	if text, ok := notes[format.AnnotationRelease]; ok {
		if l.release, err = strconv.ParseInt(text, 10, 64); err != nil || l.release < 1 {
			return l, fmt.Errorf("%q is not a release number", text)
		}
	}
	if text, ok := notes[format.AnnotationExpires]; ok {
		if l.expires, err = time.Parse(time.RFC3339, text); err != nil {
			return l, fmt.Errorf("%q is not an expiry time in RFC 3339 format", text)
		}
	}
	l.programs, err = format.ParsePrograms(notes[format.AnnotationPrograms])
	return l, err
}

// Size returns the size of the bundle file in bytes.
func (b *Bundle) Size() int64 { return b.size }

// Index returns the parsed index.json. The caller must not modify it.
func (b *Bundle) Index() ocispec.Index { return b.index }

// Items returns all items of the bundle in the order of the index. The caller
// must not modify the slice.
func (b *Bundle) Items() []format.Item { return b.items }

// Platform returns the platform of the host files and images, such as
// linux/amd64, or "" if the bundle contains none.
func (b *Bundle) Platform() string {
	for _, it := range b.items {
		if p := it.Platform(); p != "" {
			return p
		}
	}
	return ""
}

// Installer returns the content of installer.yaml.
func (b *Bundle) Installer(ctx context.Context) ([]byte, error) {
	data, _, err := b.readItemContent(ctx, format.KindInstaller, "")
	return data, err
}

// Application returns the content of the Application manifest and reports
// whether the bundle contains one.
func (b *Bundle) Application(ctx context.Context) (data []byte, found bool, err error) {
	return b.readItemContent(ctx, format.KindApplication, "")
}

// Chart returns the packaged Helm chart (.tgz) with the given name.
func (b *Bundle) Chart(ctx context.Context, name string) ([]byte, error) {
	data, found, err := b.readItemContent(ctx, format.KindChart, name)
	if err == nil && !found {
		err = b.notFoundError(format.KindChart, name)
	}
	return data, err
}

// readItemContent returns the single layer of the first item with the given kind
// and name; the name "" matches any item. found reports whether there is one.
func (b *Bundle) readItemContent(ctx context.Context, kind format.Kind, name string) (data []byte, found bool, err error) {
	for _, it := range b.items {
		if it.Kind == kind && (name == "" || it.Name == name) {
			data, err := blob.ReadAll(ctx, b, it.Layers[0].Descriptor, limit.Document)
			return data, true, err
		}
	}
	return nil, false, nil
}

// Attestation returns the SBOM or the provenance document as stored in the
// bundle, and reports whether the bundle contains one.
func (b *Bundle) Attestation(ctx context.Context, kind format.Kind) (data []byte, found bool, err error) {
	return b.readItemContent(ctx, kind, "")
}

// Charts returns the Helm charts in the order of the index.
func (b *Bundle) Charts() []Chart {
	var charts []Chart
	for _, it := range b.items {
		if it.Kind == format.KindChart {
			charts = append(charts, Chart{it.Name, it.Version})
		}
	}
	return charts
}

// Images returns the container images in the order of the index, which is the
// order in which a starting cluster needs them.
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

// HostFiles returns the files for the host in the order of the index.
func (b *Bundle) HostFiles() []HostFile {
	var files []HostFile
	for _, it := range b.items {
		if it.Kind == format.KindHost {
			f, _ := it.HostFile() // checked when the item was parsed
			files = append(files, f)
		}
	}
	return files
}

// OpenHostFile returns a reader of the unpacked host file with the given name.
// Reading fails at the end of the stream if the compressed or the unpacked
// content differs from what is declared, so a caller must not use the content
// before it has read io.EOF.
func (b *Bundle) OpenHostFile(ctx context.Context, name string) (io.ReadCloser, error) {
	for _, f := range b.HostFiles() {
		if f.Name != name {
			continue
		}
		if b.contentStore != nil {
			return b.contentStore.Open(ctx, ocispec.Descriptor{Digest: f.Digest, Size: f.Size})
		}
		packed, err := b.Open(ctx, f.Packed)
		if err != nil {
			return nil, err
		}
		plain, err := blob.Unpack(packed, f.Packed.MediaType)
		if err != nil {
			return nil, b.toProblem("read "+name+" from", err)
		}
		declared := ocispec.Descriptor{Digest: f.Digest, Size: f.Size}
		return blob.NewReader(ctx, plain, declared, name+" of bundle "+b.name), nil
	}
	return nil, b.notFoundError(format.KindHost, name)
}

// Open returns a verifying reader of a blob in the bundle; see blob.NewReader.
func (b *Bundle) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if b.contentStore != nil {
		return b.contentStore.Open(ctx, desc)
	}
	if b.missingBlobs.contains(desc.Digest) {
		return b.missingBlobs.openBlob(ctx, desc, b.name)
	}
	section, err := b.Section(desc)
	if err != nil {
		return nil, err
	}
	return blob.NewReader(ctx, io.NopCloser(section), desc, "bundle "+b.name), nil
}

// Section returns random access to a blob's bytes as stored in the file. They
// are NOT verified: it is for callers that check the digest themselves, such as
// containerd's content store.
func (b *Bundle) Section(desc ocispec.Descriptor) (*io.SectionReader, error) {
	s, err := b.findBlob(desc)
	if err != nil {
		return nil, b.toProblem("read from", err)
	}
	return io.NewSectionReader(b.r, s.Off, s.Size), nil
}

// Unverified is a blob source that returns a bundle's blobs as stored in its
// file, without the verification that Bundle.Open does. It is for readers that
// verify the content themselves. Blobs that are not in the file are verified.
type Unverified struct{ *Bundle }

// Open returns a reader of a blob; see Unverified.
func (u Unverified) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if u.contentStore != nil || u.missingBlobs.contains(desc.Digest) {
		return u.Bundle.Open(ctx, desc)
	}
	section, err := u.Section(desc)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(section), nil
}

// ContentSize returns the disk space that the content needs on a host. It is
// computed from the index and the manifests only.
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

func (b *Bundle) notFoundError(kind format.Kind, name string) error {
	return problem.Newf(problem.ExitBundle, fmt.Sprintf("find %s %s in bundle %s", kind, name, b.name),
		"build the bundle again with an Installer that includes it", "the bundle does not contain it")
}

// toProblem returns err as a problem with the exit code for a bad bundle. An err
// that is a problem already is returned as it is.
func (b *Bundle) toProblem(doing string, err error) error {
	var p *problem.Problem
	if errors.As(err, &p) {
		return err
	}
	return problem.New(problem.ExitBundle, doing+" bundle "+b.name, err,
		"the file is damaged or was altered: copy it again from where it was published and compare its sha256sum")
}
