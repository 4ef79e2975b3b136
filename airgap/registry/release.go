package registry

import (
	"archive/tar"
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/format"
)

// maxFile is the most bytes that a host file may have.
const maxFile = 4 << 30

// maxSums is the most bytes that a checksum file may have.
const maxSums = 1 << 20

// Release says where a host file is published. In the paths {version} and
// {arch} stand for what is asked for.
type Release struct {
	Name     string            // of the host file
	Base     string            // URL in front of the paths
	Path     string            // of the download
	SumsPath string            // of a file in the form of sha256sum that lists the download; not asked when Sums knows it
	Sums     map[string]string // pinned SHA-256 (hex) of the download, by "version/arch"
	Member   string            // the file's path in the download, a .tar.gz; "" when the download is the file
	Licenses string            // SPDX expression
}

// Upstream lists where the projects themselves publish: k0s's release assets
// (its release workflow writes sha256sums.txt) and KOTS's.
func Upstream() []Release {
	return []Release{
		{Name: "k0s", Base: "https://github.com/k0sproject/k0s/releases/download", Licenses: "Apache-2.0",
			Path: "{version}/k0s-{version}-{arch}", SumsPath: "{version}/sha256sums.txt"},
		{Name: "kots", Base: "https://github.com/replicatedhq/kots/releases/download", Licenses: "Apache-2.0",
			Path: "v{version}/kots_linux_{arch}.tar.gz", SumsPath: "v{version}/kots_{version}_checksums.txt", Member: "kots"},
	}
}

// url fills a path in; a "+" in a version is escaped, which is how GitHub wants it.
func (r Release) url(pattern, version, arch string) string {
	return strings.TrimRight(r.Base, "/") + "/" + fill(pattern, url.QueryEscape(version), arch)
}

func fill(pattern, version, arch string) string {
	return strings.NewReplacer("{version}", version, "{arch}", arch).Replace(pattern)
}

// hostFile downloads a host file unless the folder has that version.
func (f *fetcher) hostFile(ctx context.Context, want build.HostFile) error {
	if f.hasFile(want) {
		return nil
	}
	i := slices.IndexFunc(f.req.Releases, func(r Release) bool { return r.Name == want.Name })
	if i < 0 {
		return fmt.Errorf("host file %s: nobody says where it is published", want.Name)
	}
	release := f.req.Releases[i]
	var sum string
	err := f.retry(ctx, func() (err error) {
		sum, err = f.checksum(ctx, release, want.Version)
		return err
	})
	if err == nil {
		err = f.retry(ctx, func() error { return f.download(ctx, release, want.Version, sum) })
	}
	if err != nil {
		return fmt.Errorf("host file %s %s: %w", want.Name, want.Version, err)
	}
	return nil
}

// hasFile looks for a host file of that version with all its blobs.
func (f *fetcher) hasFile(want build.HostFile) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	platform := &ocispec.Platform{OS: f.os, Architecture: f.arch}
	asked := identity(ocispec.Descriptor{Platform: platform, Annotations: annotations(want.Name, want.Version, "")})
	return slices.ContainsFunc(f.index.Manifests, func(d ocispec.Descriptor) bool { return identity(d) == asked && f.folder.Has(d) })
}

func annotations(name, version, licenses string) map[string]string {
	a := map[string]string{format.AnnotationKind: string(format.KindHost), ocispec.AnnotationTitle: name, ocispec.AnnotationVersion: version}
	if licenses != "" {
		a[ocispec.AnnotationLicenses] = licenses
	}
	return a
}

// checksum gives the SHA-256 that the download must have: pinned, or from the
// release's own list, which TLS alone vouches for.
func (f *fetcher) checksum(ctx context.Context, r Release, version string) (string, error) {
	if sum, ok := r.Sums[version+"/"+f.arch]; ok {
		return sum, nil
	}
	if r.SumsPath == "" {
		return "", fmt.Errorf("%w: no checksum of it is known", fetch.ErrUnusable)
	}
	from := r.url(r.SumsPath, version, f.arch)
	resp, err := f.get(ctx, from)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	name := path.Base(fill(r.Path, version, f.arch))
	lines := bufio.NewScanner(io.LimitReader(resp.Body, maxSums))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 2 && strings.TrimPrefix(fields[1], "*") == name {
			return fields[0], nil
		}
	}
	return "", cmp.Or(lines.Err(), fmt.Errorf("%w: %s does not list %s", fetch.ErrUnusable, from, name))
}

// packed is a host file on its way into the folder.
type packed struct {
	blob  ocispec.Descriptor
	plain digest.Digest
	size  int64
}

// download streams a release into the folder: checked, taken out of its
// archive, compressed. It gets a name there only when its checksum was right.
func (f *fetcher) download(ctx context.Context, r Release, version, sum string) error {
	from := r.url(r.Path, version, f.arch)
	resp, err := f.get(ctx, from)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	f.meter.Grow(max(resp.ContentLength, 0))
	body := counted{resp.Body, f}
	var p packed
	p.blob, err = f.folder.Add(format.TypeFile, func(w io.Writer) error {
		hash := sha256.New()
		tee := io.TeeReader(body, hash)
		wrong := p.pack(w, tee, r.Member)
		// The rest counts for the checksum; a wrong one explains everything else.
		if _, err := io.Copy(io.Discard, tee); err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		if got := hex.EncodeToString(hash.Sum(nil)); !strings.EqualFold(got, sum) {
			return fmt.Errorf("%s has the SHA-256 %s, expected is %s", from, got, sum)
		}
		if wrong != nil {
			return fmt.Errorf("%w: %s: %w", fetch.ErrUnusable, from, wrong)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.keepFile(p, r, version)
}

// pack writes the member of a download compressed and measures it.
func (p *packed) pack(w io.Writer, download io.Reader, member string) error {
	file, err := extract(download, member)
	if err != nil {
		return err
	}
	sum := digest.SHA256.Digester()
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	p.size, err = io.Copy(io.MultiWriter(z, sum.Hash()), io.LimitReader(file, maxFile+1))
	if err != nil {
		return err
	}
	if p.size > maxFile {
		return fmt.Errorf("it unpacks to more than %d bytes", int64(maxFile))
	}
	p.plain = sum.Digest()
	return z.Close()
}

// extract finds a member of a .tar.gz; "" is the whole.
func extract(download io.Reader, member string) (io.Reader, error) {
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
			return nil, fmt.Errorf("there is no %s in it: %w", member, err)
		}
		if path.Clean(h.Name) == member && h.Typeflag == tar.TypeReg {
			return r, nil
		}
	}
}

// keepFile wraps a packed file in its manifest and enters it into the index.
func (f *fetcher) keepFile(p packed, r Release, version string) error {
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
	desc.ArtifactType, desc.Annotations = format.TypeHost, annotations(r.Name, version, r.Licenses)
	return f.keep(desc)
}
