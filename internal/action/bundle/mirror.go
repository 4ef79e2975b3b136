package bundle

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/airgap/push"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/problem"
)

// registryScheme is in front of a destination that is a registry.
const registryScheme = "oci://"

// MirrorRequest describes the folder or registry to fill.
type MirrorRequest struct {
	Installer string                  // file
	Out       string                  // folder in OCI image layout, created if missing, or oci://HOST/PATH of a registry
	Platform  string                  // such as linux/arm64; "" means linux/amd64
	Downloads Downloads               // with a Cache only for a registry
	Releases  string                  // folder for the releases of k0s and KOTS, beside a registry; "" for none
	Uploaded  func(done, total int64) // bytes in the registry; may be nil
}

// MirrorResult describes the filled folder or registry. Its JSON format is public.
type MirrorResult struct {
	Path      string   `json:"path,omitempty"`      // of the folder
	Registry  string   `json:"registry,omitempty"`  // HOST/PATH
	Mirrors   []string `json:"mirrors,omitempty"`   // HOST=HOST/PATH for builds from the registry
	Images    []string `json:"images"`              // their references
	Releases  string   `json:"releases,omitempty"`  // folder for a web server
	HostFiles []string `json:"hostFiles,omitempty"` // name and version of those in one of the folders
}

// Mirror copies the parts of the bundle for an Installer into a folder, from which Build can create
// it without a network, or its images to a registry, from which Build can download them. What is
// there already is kept.
func Mirror(ctx context.Context, req MirrorRequest) (res MirrorResult, err error) {
	target, err := parseDestination(req)
	if err != nil {
		return MirrorResult{}, err
	}
	platform, err := choosePlatform(req.Platform)
	if err != nil {
		return MirrorResult{}, err
	}
	in, files, err := readInstaller(ctx, req.Installer, "", "mirror the parts of this Installer")
	if err != nil {
		return MirrorResult{}, err
	}
	folder, err := filepath.Abs(req.Out)
	if target != "" {
		folder, err = config.DownloadCache(req.Downloads.Cache)
	}
	if err != nil {
		return MirrorResult{}, err
	}
	src := partSource{layout: folder, runDir: folder + ".run", platform: platform}
	downloads, unlock, err := req.Downloads.open(ctx, folder, src.platform)
	if err != nil {
		return MirrorResult{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	src.downloads = downloads
	if src.charts, err = src.readCharts(ctx, in, files[0], req.Downloads.Note); err != nil {
		return MirrorResult{}, err
	}
	want, err := resolveContents(ctx, in, src)
	if err != nil {
		return MirrorResult{}, err
	}
	if target != "" {
		return uploadImages(ctx, req, src, want, target)
	}
	if err := src.download(ctx, want); err != nil {
		return MirrorResult{}, err
	}
	return MirrorResult{Path: req.Out, Images: want.Images, HostFiles: nameVersions(want.HostFiles)}, nil
}

// nameVersions returns the name and the version of each file.
func nameVersions(files []build.HostFile) (names []string) {
	for _, f := range files {
		names = append(names, f.Name+" "+f.Version)
	}
	return names
}

// parseDestination returns HOST/PATH of the registry that req names, or "" for a folder.
func parseDestination(req MirrorRequest) (target string, err error) {
	refuse := func(hint, format string, args ...any) (string, error) {
		return "", problem.Newf(problem.ExitUsage, "mirror the parts of an Installer", hint, format, args...)
	}
	target, isRegistry := strings.CutPrefix(req.Out, registryScheme)
	switch {
	case req.Out == "":
		return refuse("name the folder; a variable in a script may be empty", "the name of the folder is empty")
	case !isRegistry && strings.Contains(req.Out, "://"):
		return refuse("name a folder, or a registry as oci://harbor.example.com/plinth", "the destination is a URL, but not of a registry")
	case !isRegistry && (req.Downloads.Cache != "" || req.Releases != ""):
		return refuse("omit them: the folder keeps what it has, and gets k0s and kots", "--cache and --releases-dir are for a registry")
	case !isRegistry:
		return "", nil
	case strings.Contains(target, "@"):
		return refuse("log in with `docker login`", "the registry is named with a user or a password")
	}
	target = strings.TrimSuffix(target, "/")
	if err := pull.CheckTarget(target); err != nil {
		return "", problem.New(problem.ExitUsage, "mirror to "+registryScheme+target, err, "write it as oci://harbor.example.com/plinth")
	}
	return target, nil
}

// uploadImages copies the images of want to a registry, by way of the layout of src, and the releases
// of its host files to a folder.
func uploadImages(ctx context.Context, req MirrorRequest, src partSource, want build.Request, target string) (MirrorResult, error) {
	mirrors, err := push.Mirrors(target, want.Images)
	if err != nil {
		return MirrorResult{}, err
	}
	res := MirrorResult{Registry: target, Mirrors: mirrors, Images: want.Images}
	if req.Releases != "" {
		releases := *src.downloads
		releases.HostFiles = want.HostFiles
		if err := pull.CopyReleases(ctx, releases, req.Releases); err != nil {
			return MirrorResult{}, err
		}
		res.Releases, res.HostFiles = req.Releases, nameVersions(want.HostFiles)
	}
	want.HostFiles = nil
	if err := src.download(ctx, want); err != nil {
		return MirrorResult{}, err
	}
	err = push.Images(ctx, push.Request{Folder: src.layout, Images: want.Images, Platform: src.platform, Target: target,
		Progress: req.Uploaded, Note: req.Downloads.Note})
	return res, err
}
