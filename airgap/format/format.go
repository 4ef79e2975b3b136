// Package format owns what a bundle looks like: the names and annotations in
// it, the exact tar headers, the kinds of items and the shape each must have.
// It refuses every deviation and reads no content but manifests.
package format

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// V1 is the format version that this code writes and reads.
const V1 = "v1"

// Annotations of index.json, its descriptors and of layers; docs/bundle.md describes them.
const (
	AnnotationBundle    = "dev.plinth.bundle"              // index: format version
	AnnotationRelease   = "dev.plinth.release"             // index: number of the vendor's release, decimal, growing
	AnnotationExpires   = "dev.plinth.expires"             // index: RFC 3339 time after which the bundle is not taken any more
	AnnotationKind      = "dev.plinth.kind"                // descriptor: a Kind
	AnnotationModule    = "dev.plinth.module"              // descriptor: Go module the content was built from
	AnnotationSum       = "dev.plinth.sum"                 // descriptor: that module's go.sum hash
	AnnotationModules   = "dev.plinth.modules"             // descriptor: all sources with versions, sums and licences; a JSON array
	AnnotationSizes     = "dev.plinth.uncompressed-sizes"  // image descriptor: bytes per unpacked layer, comma separated
	AnnotationMode      = "dev.plinth.mode"                // host file layer: permission bits, octal
	AnnotationDigest    = "dev.plinth.uncompressed-digest" // host file layer: digest of the unpacked file
	AnnotationSize      = "dev.plinth.uncompressed-size"   // host file layer: bytes of the unpacked file
	AnnotationImageName = "io.containerd.image.name"       // image descriptor: full reference
)

// Media and artifact types of what Plinth itself makes.
const (
	TypeInstaller   = "application/vnd.plinth.installer.v1+yaml"
	TypeApplication = "application/vnd.plinth.application.v1+yaml"
	TypeHost        = "application/vnd.plinth.host.v1"
	TypeFile        = "application/vnd.plinth.file.v1+zstd"
	TypeSBOM        = "application/spdx+json+zstd"
	TypeProvenance  = "application/vnd.in-toto+jsonl"                       // one statement a line
	TypeChart       = "application/vnd.cncf.helm.chart.content.v1.tar+gzip" // Helm's own
	TypeChartConfig = "application/vnd.cncf.helm.config.v1+json"            // Helm's own
)

// Names of the entries that stand before the blobs, in this order.
const (
	LayoutEntry    = "oci-layout"
	IndexEntry     = "index.json"
	ChecksumEntry  = "index.json.sha256" // what sha256sum prints for index.json
	SignatureEntry = "index.json.sig"    // of index.json, in DER; only in a signed bundle
	DeltaEntry     = "delta.json"        // a Delta; only in a delta
)

const blobPrefix = "blobs/sha256/"

const blockSize = 512 // of a tar

// Padding is the number of zero bytes that fill a tar entry's last block.
func Padding(size int64) int64 { return -size & (blockSize - 1) }

// TarHeader gives the header bytes of an entry: those and no others stand in a
// bundle (owner 0, mode 0644, no time), so a bundle's bytes follow from its
// content. Blobs from 8 GiB on get a PAX record, all others plain USTAR.
func TarHeader(name string, size int64) ([]byte, error) {
	h := tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatUSTAR}
	if size >= 8<<30 {
		h.Format = tar.FormatPAX
	}
	var buf bytes.Buffer
	if err := tar.NewWriter(&buf).WriteHeader(&h); err != nil {
		return nil, fmt.Errorf("tar entry %q: %w", name, err)
	}
	return buf.Bytes(), nil
}

// Checksum gives the content of index.json.sha256 for an index.
func Checksum(index []byte) string {
	return digest.FromBytes(index).Encoded() + "  " + IndexEntry + "\n"
}

// BlobEntry is the name of a blob's entry.
func BlobEntry(d digest.Digest) string { return blobPrefix + d.Encoded() }

// EntryDigest is the way back from BlobEntry; ok tells whether name is one.
func EntryDigest(name string) (d digest.Digest, ok bool) {
	encoded, found := strings.CutPrefix(name, blobPrefix)
	d = digest.NewDigestFromEncoded(digest.SHA256, encoded)
	return d, found && d.Validate() == nil
}
