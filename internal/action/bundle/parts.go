package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/wait"
)

// Downloads describes from where parts are downloaded, and to where.
type Downloads struct {
	Cache       string                  // folder that keeps the parts for later builds; "" for the user's cache folder
	Mirrors     []string                // HOST=HOST/PATH: where to download the images of a registry from instead
	MirrorsFile string                  // file with such lines; "" for none
	Releases    string                  // URL that serves what is below https://github.com; "" for GitHub itself
	Progress    func(done, total int64) // bytes; may be nil
	Note        func(text string)       // receives why something is attempted again or in another way; may be nil
}

// fromRegistry is the Source for the registries and release downloads of the upstream projects.
const fromRegistry = "registry"

// sourceFiles returns the files of the source folder that the bundle could overwrite.
func sourceFiles(req BuildRequest) []string {
	if req.Source == fromRegistry {
		return nil
	}
	return []string{
		filepath.Join(req.Source, "index.json"), filepath.Join(req.Source, "oci-layout"),
		filepath.Join(req.Source, "blobs", "sha256", filepath.Base(req.Out)),
	}
}

// gatherParts sets the folder with the parts of want. Parts from registries are first
// downloaded to the cache, which no other build uses until done is called.
func gatherParts(ctx context.Context, req BuildRequest, want *build.Request) (done func() error, err error) {
	d := req.Downloads
	if strings.Contains(req.Source, "://") {
		return nil, problem.New(problem.ExitUsage, "build a bundle", errors.New("--source is a URL"), "give a folder in OCI image layout, such as out/payload, or registry")
	}
	if req.Source != fromRegistry {
		if d.Cache != "" || len(d.Mirrors) > 0 || d.MirrorsFile != "" || d.Releases != "" {
			return nil, problem.New(problem.ExitUsage, "build a bundle", errors.New("--cache, --mirror, --mirrors and --releases are for --source registry"), "omit them, or omit --source")
		}
		want.Layout = req.Source
		return func() error { return nil }, nil
	}
	folder, err := cacheFolder(d.Cache)
	if err != nil {
		return nil, err
	}
	want.Layout = folder
	return d.fetch(ctx, pull.Request{Folder: folder, Images: want.Images, HostFiles: want.HostFiles, Platform: want.Platform})
}

// cacheFolder returns the absolute path of a cache; for "" that of the user
// (https://specifications.freedesktop.org/basedir-spec).
func cacheFolder(name string) (string, error) {
	if name != "" {
		return filepath.Abs(name)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", problem.New(problem.ExitUsage, "find the cache of the user", err, "name a folder for downloaded parts with --cache")
	}
	return filepath.Join(dir, "plinth", "parts"), nil
}

// fetch downloads what req requests, from where d says. Nothing else fetches into the
// folder until unlock is called.
func (d Downloads) fetch(ctx context.Context, req pull.Request) (unlock func() error, err error) {
	if req.Mirrors, err = d.parseMirrors(); err != nil {
		return nil, err
	}
	if req.Releases, err = d.releases(); err != nil {
		return nil, err
	}
	if _, err := blob.CreateFolder(req.Folder); err != nil {
		return nil, problem.New(problem.ExitUsage, "use the folder for downloaded parts", err, "choose another folder for them")
	}
	unlock, err = lockFolder(ctx, req.Folder, d.Note)
	if err != nil {
		return nil, err
	}
	req.Progress, req.Note = d.Progress, d.Note
	if err := pull.Fetch(ctx, req); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

// parseMirrors returns the mirrors of the flags, and then those of the file.
func (d Downloads) parseMirrors() (mirrors []pull.Mirror, err error) {
	for _, text := range d.Mirrors {
		m, err := pull.ParseMirror(text)
		if err != nil {
			return nil, problem.New(problem.ExitUsage, "parse --mirror", err, "write it as --mirror docker.io=harbor.example.com/dockerhub")
		}
		mirrors = append(mirrors, m)
	}
	if d.MirrorsFile == "" {
		return mirrors, nil
	}
	data, err := readMirrors(d.MirrorsFile)
	var more []pull.Mirror
	if err == nil {
		more, err = pull.ParseMirrorFile(data)
	}
	if err != nil {
		return nil, problem.New(problem.ExitUsage, "read the mirrors in "+d.MirrorsFile, err, "write one HOST=HOST/PATH per line, such as docker.io=harbor.example.com/dockerhub")
	}
	return append(mirrors, more...), nil
}

// maxMirrorsSize is the maximum size of a file with mirrors in bytes.
const maxMirrorsSize = 1 << 20

// readMirrors reads a file with mirrors. The error does not name the file.
func readMirrors(path string) ([]byte, error) {
	f, err := os.Open(path)
	var inPath *fs.PathError
	if errors.As(err, &inPath) {
		return nil, inPath.Err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxMirrorsSize+1))
	switch {
	case errors.As(err, &inPath):
		return nil, inPath.Err
	case len(data) > maxMirrorsSize:
		return nil, fmt.Errorf("it has more than %d bytes", maxMirrorsSize)
	}
	return data, err
}

// releases returns the release pages of the host files.
func (d Downloads) releases() ([]pull.Release, error) {
	if d.Releases == "" {
		return pull.UpstreamReleases(), nil
	}
	u, err := url.Parse(d.Releases)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || !isPort(u.Port()) {
		return nil, problem.Newf(problem.ExitUsage, "parse --releases", "write it as --releases https://artifactory.example.com/artifactory/github", "%q is not an https URL of a folder", d.Releases)
	}
	return pull.ReleasesAt(d.Releases), nil
}

// isPort reports whether the port of a URL, "" for none, is one.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// maxLockWait is how long a build waits for another one that uses the same cache.
const maxLockWait = time.Hour

// lockFolder waits until no other process fetches into a folder, and locks it.
func lockFolder(ctx context.Context, folder string, note func(string)) (unlock func() error, err error) {
	waiting := func(string) {
		if note != nil {
			note("another build uses " + folder + ": waiting for it; builds with different folders do not wait")
		}
	}
	err = wait.Until(ctx, wait.Options{What: "another build that uses " + folder, Timeout: maxLockWait, OnReason: waiting, NextCommand: "fuser -v " + filepath.Join(folder, lockFile)},
		func(context.Context) (bool, string, error) {
			var err error
			unlock, _, err = host.Lock(filepath.Join(folder, lockFile), nil)
			if errors.Is(err, host.ErrLocked) {
				return false, "it is still in use", nil
			}
			return err == nil, "", err
		})
	return unlock, err
}

// lockFile is the name of the file in a folder that is locked while parts are
// fetched into it.
const lockFile = ".plinth-lock"
