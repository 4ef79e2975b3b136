package pull

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/fetch"
)

// CopyReleases downloads the releases of the host files of req as they are published, with their
// lists of checksums, into a folder. A web server for this folder serves what ReleasesAt requests.
// Downloads that it has undamaged are kept. Interrupted ones are in the folder of req until the next
// call resumes them. Errors are Problems with the exit code for a bad bundle.
func CopyReleases(ctx context.Context, req Request, dir string) error {
	f, err := newFetcher(req)
	if err != nil {
		return req.downloadError(err)
	}
	var wrong []error
	for _, file := range req.HostFiles {
		if err := f.copyRelease(ctx, file, dir); err != nil {
			wrong = append(wrong, newHostFileError(file, err))
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := joinFailures(wrong); err != nil {
		return req.downloadError(err)
	}
	f.meter.Finish()
	return nil
}

// copyRelease downloads one release and then its list of checksums, which makes it complete.
func (f *fetcher) copyRelease(ctx context.Context, want build.HostFile, dir string) error {
	path, checksums, err := releaseFiles(dir, want, f.arch)
	if err != nil {
		return err
	}
	release, sum, err := f.findRelease(ctx, want)
	if err != nil {
		return err
	}
	list, _, err := f.fetchChecksumList(ctx, release, want.Version)
	if err != nil {
		return err
	}
	if !hasDigest(path, sum) {
		if err := f.copyDownload(ctx, release.URL(want.Version, f.arch), sum, path); err != nil {
			return err
		}
	}
	return writeReleaseFile(checksums, bytes.NewReader(list.Data))
}

// copyDownload downloads the content with the digest sum to a file.
func (f *fetcher) copyDownload(ctx context.Context, from string, sum digest.Digest, path string) error {
	want := ocispec.Descriptor{Digest: sum, Size: fetch.UnknownSize}
	if err := f.client.FetchBlob(ctx, f.folder, fetch.Blob{URL: from, Want: want}, f.meter); err != nil {
		return err
	}
	want.Size, _ = f.folder.Find(sum)
	download, err := f.folder.Open(ctx, want)
	if err != nil {
		return err
	}
	err = writeReleaseFile(path, download)
	return errors.Join(err, download.Close(), f.folder.Remove(sum))
}

// releaseFiles returns the paths below dir of a release and of its list of checksums. They are those
// in the URLs of ReleasesAt, unescaped.
func releaseFiles(dir string, file build.HostFile, arch string) (path, checksums string, err error) {
	releases := ReleasesAt("")
	i := slices.IndexFunc(releases, func(r Release) bool { return r.Name == file.Name })
	if i < 0 || strings.ContainsAny(file.Version, `/\`) || strings.Contains(file.Version, "..") {
		return "", "", fmt.Errorf("%w: no release has the name %s and the version %q", fetch.ErrUnusable, file.Name, file.Version)
	}
	in := func(pattern string) string {
		return filepath.Join(dir, filepath.FromSlash(releases[i].Base), filepath.FromSlash(fillPattern(pattern, file.Version, arch)))
	}
	return in(releases[i].Path), in(releases[i].ChecksumsPath), nil
}

// hasDigest reports whether a file has content with a digest.
func hasDigest(path string, want digest.Digest) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	return err == nil && digest.NewDigest(digest.SHA256, hash) == want
}

// writeReleaseFile writes a file and the folders that it is in, for a web server to read.
func writeReleaseFile(path string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return blob.WriteFile(path, func(w io.Writer) error {
		_, err := io.Copy(w, content)
		return err
	})
}
