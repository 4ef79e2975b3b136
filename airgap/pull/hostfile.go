package pull

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
)

// maxFileSize is the maximum size of an unpacked host file in bytes.
const maxFileSize = 4 << 30

// maxChecksumListSize is the maximum size of a checksum file in bytes.
const maxChecksumListSize = 1 << 20

// Release describes where a host file is published. {version} and {arch} in the
// paths are replaced by the requested version and architecture.
type Release struct {
	Name          string            // name of the host file
	Base          string            // URL in front of the paths
	Path          string            // path of the download
	ChecksumsPath string            // path of a file in sha256sum format that lists the download; not used if Checksums has an entry
	Checksums     map[string]string // pinned SHA-256 (hex) of the download, by "version/arch"
	Member        string            // path of the file in the download, a .tar.gz; "" if the download is the file
	Licenses      string            // SPDX expression
}

// GitHub is where the projects themselves publish their releases.
const GitHub = "https://github.com"

// UpstreamReleases returns the release pages of k0s (whose release workflow writes
// sha256sums.txt) and KOTS.
func UpstreamReleases() []Release { return ReleasesAt(GitHub) }

// ReleasesAt returns the release pages of k0s and KOTS below a URL that serves what
// is below https://github.com.
func ReleasesAt(url string) []Release {
	url = strings.TrimRight(url, "/")
	return []Release{
		{Name: "k0s", Base: url + "/k0sproject/k0s/releases/download", Licenses: "Apache-2.0",
			Path: "{version}/k0s-{version}-{arch}", ChecksumsPath: "{version}/sha256sums.txt"},
		{Name: "kots", Base: url + "/replicatedhq/kots/releases/download", Licenses: "Apache-2.0",
			Path: "v{version}/kots_linux_{arch}.tar.gz", ChecksumsPath: "v{version}/kots_{version}_checksums.txt", Member: "kots"},
	}
}

// URL returns the URL of the download for a version and an architecture, such as amd64.
func (r Release) URL(version, arch string) string { return r.urlFor(r.Path, version, arch) }

// urlFor returns the URL of a path pattern. A "+" in the version is escaped, as GitHub
// requires.
func (r Release) urlFor(pattern, version, arch string) string {
	return strings.TrimRight(r.Base, "/") + "/" + fillPattern(pattern, url.QueryEscape(version), arch)
}

// fillPattern returns a path pattern with version and architecture inserted.
func fillPattern(pattern, version, arch string) string {
	return strings.NewReplacer("{version}", version, "{arch}", arch).Replace(pattern)
}

// fetchHostFile downloads a host file, unless the folder has it from the download that
// is published now.
func (f *fetcher) fetchHostFile(ctx context.Context, want build.HostFile) error {
	release, sum, err := f.findRelease(ctx, want)
	if err == nil && !f.hasHostFile(ctx, want, sum) {
		err = f.fetchRelease(ctx, release, want.Version, sum)
	}
	if err != nil {
		return newHostFileError(want, err)
	}
	return nil
}

// findRelease returns where a host file is published, and the digest that the download
// must have.
func (f *fetcher) findRelease(ctx context.Context, want build.HostFile) (r Release, sum digest.Digest, err error) {
	i := slices.IndexFunc(f.req.Releases, func(r Release) bool { return r.Name == want.Name })
	if i < 0 {
		return r, "", errors.New("its download location is unknown")
	}
	r = f.req.Releases[i]
	text, err := f.fetchChecksum(ctx, r, want.Version)
	if err != nil {
		return r, "", err
	}
	sum = digest.NewDigestFromEncoded(digest.SHA256, strings.ToLower(text))
	if sum.Validate() != nil {
		return r, "", fmt.Errorf("%w: its published checksum %q is not a SHA-256", fetch.ErrUnusable, text)
	}
	return r, sum, nil
}

// hasHostFile reports whether the folder has that version of a host file, undamaged and
// from the download with the digest sum.
func (f *fetcher) hasHostFile(ctx context.Context, want build.HostFile, sum digest.Digest) bool {
	platform := &ocispec.Platform{OS: f.os, Architecture: f.arch}
	key := indexKey(ocispec.Descriptor{Platform: platform, Annotations: hostFileAnnotations(want.Name, want.Version, "")})
	f.mu.Lock()
	i := slices.IndexFunc(f.index.Manifests, func(d ocispec.Descriptor) bool { return indexKey(d) == key })
	var desc ocispec.Descriptor
	if i >= 0 {
		desc = f.index.Manifests[i]
	}
	f.mu.Unlock()
	if desc.Annotations[format.AnnotationDownloadDigest] != sum.String() {
		return false
	}
	manifest, err := blob.ReadAll(ctx, f.folder, desc, limit.Document)
	if err != nil {
		return false
	}
	item, err := format.ParseItem(desc, manifest)
	return err == nil && !slices.ContainsFunc(item.Blobs(), func(b ocispec.Descriptor) bool { return !f.isStored(ctx, b) })
}

// hostFileAnnotations returns the annotations of a host file's descriptor.
func hostFileAnnotations(name, version, licenses string) map[string]string {
	a := map[string]string{format.AnnotationKind: string(format.KindHost), ocispec.AnnotationTitle: name, ocispec.AnnotationVersion: version}
	if licenses != "" {
		a[ocispec.AnnotationLicenses] = licenses
	}
	return a
}

// fetchChecksum returns the SHA-256 (hex) that the download must have: the pinned one,
// or the one in the release's own list, which is authenticated by TLS only.
func (f *fetcher) fetchChecksum(ctx context.Context, r Release, version string) (string, error) {
	if sum, ok := r.Checksums[version+"/"+f.arch]; ok {
		return sum, nil
	}
	list, from, err := f.fetchChecksumList(ctx, r, version)
	if err != nil {
		return "", err
	}
	name := path.Base(fillPattern(r.Path, version, f.arch))
	lines := bufio.NewScanner(bytes.NewReader(list.Data))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 2 && strings.TrimPrefix(fields[1], "*") == name {
			return fields[0], nil
		}
	}
	return "", cmp.Or(lines.Err(), fmt.Errorf("%w: %s does not list %s", fetch.ErrUnusable, from, name))
}

// fetchChecksumList returns the list with the checksums of a release, and its URL.
func (f *fetcher) fetchChecksumList(ctx context.Context, r Release, version string) (list fetch.Document, from string, err error) {
	if r.ChecksumsPath == "" {
		return list, "", fmt.Errorf("%w: no checksum is known", fetch.ErrUnusable)
	}
	from = r.urlFor(r.ChecksumsPath, version, f.arch)
	list, err = f.client.GetDocument(ctx, from, "", maxChecksumListSize)
	return list, from, err
}

// packedFile is a compressed host file: its blob, and the digest and size of its
// content.
type packedFile struct {
	blob  ocispec.Descriptor
	plain digest.Digest
	size  int64
}

// fetchRelease downloads a release, verifies its digest, and stores the host file that it contains, compressed. The download itself is not kept.
func (f *fetcher) fetchRelease(ctx context.Context, r Release, version string, sum digest.Digest) error {
	want := ocispec.Descriptor{Digest: sum, Size: fetch.UnknownSize}
	from := r.urlFor(r.Path, version, f.arch)
	if err := f.client.FetchBlob(ctx, f.folder, fetch.Blob{URL: from, Want: want}, f.meter); err != nil {
		return err
	}
	want.Size, _ = f.folder.Find(want.Digest)
	download, err := f.folder.Open(ctx, want)
	if err != nil {
		return err
	}
	var p packedFile
	p.blob, err = f.folder.Add(format.TypeFile, func(w io.Writer) error { return p.packMember(w, download, r.Member) })
	if err := errors.Join(download.Close(), f.folder.Remove(want.Digest)); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", fetch.ErrUnusable, from, err)
	}
	return f.addHostFile(p, r, version, want)
}

// packMember compresses the member of a download to w and records the digest and
// size of its content.
func (p *packedFile) packMember(w io.Writer, download io.Reader, member string) error {
	file, err := openMember(download, member)
	if err != nil {
		return err
	}
	sum := digest.SHA256.Digester()
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	p.size, err = io.Copy(io.MultiWriter(z, sum.Hash()), io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return err
	}
	if p.size > maxFileSize {
		return fmt.Errorf("it unpacks to more than %d bytes", int64(maxFileSize))
	}
	p.plain = sum.Digest()
	return z.Close()
}

// openMember returns the content of a member of a .tar.gz; for "", the download
// itself.
func openMember(download io.Reader, member string) (io.Reader, error) {
	if member == "" {
		return download, nil
	}
	gz, err := gzip.NewReader(download)
	if err != nil {
		return nil, err
	}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if err != nil {
			return nil, fmt.Errorf("the archive does not contain %s: %w", member, err)
		}
		if path.Clean(h.Name) == member && h.Typeflag == tar.TypeReg {
			return r, nil
		}
	}
}

// addHostFile stores the manifest of a host file from a download and adds it to the
// index.
func (f *fetcher) addHostFile(p packedFile, r Release, version string, download ocispec.Descriptor) error {
	p.blob.Annotations = map[string]string{ocispec.AnnotationTitle: r.Name, format.AnnotationMode: "0755",
		format.AnnotationDigest: p.plain.String(), format.AnnotationSize: fmt.Sprint(p.size)}
	empty, err := f.folder.Add(ocispec.MediaTypeEmptyJSON, func(w io.Writer) error {
		_, err := io.WriteString(w, "{}")
		return err
	})
	if err != nil {
		return err
	}
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: format.TypeHost, Config: empty, Layers: []ocispec.Descriptor{p.blob}}
	manifest.SchemaVersion = 2
	desc, err := f.folder.Add(ocispec.MediaTypeImageManifest, func(w io.Writer) error { return json.NewEncoder(w).Encode(manifest) })
	if err != nil {
		return err
	}
	desc.ArtifactType, desc.Annotations = format.TypeHost, hostFileAnnotations(r.Name, version, r.Licenses)
	desc.Annotations[format.AnnotationDownloadDigest] = download.Digest.String()
	desc.Annotations[format.AnnotationDownloadSize] = strconv.FormatInt(download.Size, 10)
	return f.addToIndex(desc)
}
