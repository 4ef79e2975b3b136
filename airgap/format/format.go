// Package format defines the file format of bundles: entry names, annotations,
// tar headers and the kinds of items.
package format

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// V1 is the format version that this package writes and reads.
const V1 = "v1"

// Annotations of index.json, its descriptors and of layers; docs/reference/bundle-format.md describes them.
const (
	AnnotationBundle         = "dev.plinth.bundle"              // index: format version
	AnnotationRelease        = "dev.plinth.release"             // index: number of the vendor's release, decimal, increasing
	AnnotationExpires        = "dev.plinth.expires"             // index: RFC 3339 time after which the bundle is refused
	AnnotationPrograms       = "dev.plinth.programs"            // index: the executables of Plinth that upgraded nodes may take; a JSON array of Program
	AnnotationKind           = "dev.plinth.kind"                // descriptor: a Kind
	AnnotationModule         = "dev.plinth.module"              // descriptor: Go module the content was built from
	AnnotationSum            = "dev.plinth.sum"                 // descriptor: that module's go.sum hash
	AnnotationModules        = "dev.plinth.modules"             // descriptor: all sources with versions, sums and licenses; a JSON array
	AnnotationSizes          = "dev.plinth.uncompressed-sizes"  // image descriptor: bytes per unpacked layer, comma separated
	AnnotationMode           = "dev.plinth.mode"                // host file layer: permission bits, octal
	AnnotationDigest         = "dev.plinth.uncompressed-digest" // host file layer: digest of the unpacked file
	AnnotationSize           = "dev.plinth.uncompressed-size"   // host file layer: bytes of the unpacked file
	AnnotationDownloadDigest = "dev.plinth.download-digest"     // host file descriptor: digest of the download that the file is or comes from
	AnnotationDownloadSize   = "dev.plinth.download-size"       // host file descriptor: bytes of that download
	AnnotationChart          = "dev.plinth.chart"               // chart descriptor of a folder of downloads: where the chart is from
	AnnotationImageName      = "io.containerd.image.name"       // image descriptor: full reference
)

// Media and artifact types of the content that Plinth creates.
const (
	TypeInstaller   = "application/vnd.plinth.installer.v1+yaml"
	TypeApplication = "application/vnd.plinth.application.v1+yaml"
	TypeHost        = "application/vnd.plinth.host.v1"
	TypeFile        = "application/vnd.plinth.file.v1+zstd"
	TypeSBOM        = "application/spdx+json+zstd"
	TypeProvenance  = "application/vnd.in-toto+jsonl"                       // one statement per line
	TypeChart       = "application/vnd.cncf.helm.chart.content.v1.tar+gzip" // defined by Helm
	TypeChartConfig = "application/vnd.cncf.helm.config.v1+json"            // defined by Helm
)

// Names of the entries that precede the blobs, in this order.
const (
	LayoutEntry    = "oci-layout"
	IndexEntry     = "index.json"
	ChecksumEntry  = "index.json.sha256" // the output of sha256sum for index.json
	SignatureEntry = "index.json.sig"    // signature of index.json, in DER; only in a signed bundle
	DeltaEntry     = "delta.json"        // a Delta; only in a delta
)

const blobPrefix = "blobs/sha256/"

const (
	blockSize = 512           // bytes in a tar block
	maxHeader = 3 * blockSize // bytes of the longest TarHeader: a PAX header, its record, a header
)

// Padding returns the number of zero bytes that fill the last block of a tar entry of size bytes.
func Padding(size int64) int64 { return -size & (blockSize - 1) }

// TarHeader returns the only valid header bytes for an entry in a bundle (owner
// 0, mode 0644, no time), so that a bundle's bytes depend only on its content.
// Blobs of 8 GiB or more get a PAX record, all others a plain USTAR header.
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

// Checksum returns the content of index.json.sha256 for the given index.
func Checksum(index []byte) string {
	return digest.FromBytes(index).Encoded() + "  " + IndexEntry + "\n"
}

// BlobEntry returns the entry name of a blob.
func BlobEntry(d digest.Digest) string { return blobPrefix + d.Encoded() }

// ParseBlobEntry returns the digest in an entry name, the inverse of BlobEntry, and
// reports whether name is the entry name of a blob.
func ParseBlobEntry(name string) (d digest.Digest, ok bool) {
	encoded, found := strings.CutPrefix(name, blobPrefix)
	d = digest.NewDigestFromEncoded(digest.SHA256, encoded)
	return d, found && d.Validate() == nil
}
