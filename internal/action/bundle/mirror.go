package bundle

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/plinthdev/plinth/internal/problem"
)

// MirrorRequest describes the folder to fill.
type MirrorRequest struct {
	Installer string // file
	Out       string // folder in OCI image layout; created if missing
	Platform  string // such as linux/arm64; "" means linux/amd64
	Downloads Downloads
}

// MirrorResult describes the filled folder. Its JSON format is public.
type MirrorResult struct {
	Path      string   `json:"path"`
	Images    []string `json:"images"`
	HostFiles []string `json:"hostFiles"` // name and version
}

// Mirror downloads all parts of the bundle for an Installer into a folder, from which
// Build can create it without a network. What the folder has already is kept.
func Mirror(ctx context.Context, req MirrorRequest) (res MirrorResult, err error) {
	if req.Out == "" {
		return MirrorResult{}, problem.Newf(problem.ExitUsage, "mirror the parts of an Installer", "name the folder; a variable in a script may be empty", "the name of the folder is empty")
	}
	platform, err := choosePlatform(req.Platform)
	if err != nil {
		return MirrorResult{}, err
	}
	in, _, err := readInstaller(req.Installer, "", "mirror the parts of this Installer")
	if err != nil {
		return MirrorResult{}, err
	}
	folder, err := filepath.Abs(req.Out)
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
	want, err := resolveContents(ctx, in, src)
	if err == nil {
		err = src.download(ctx, want)
	}
	if err != nil {
		return MirrorResult{}, err
	}
	res = MirrorResult{Path: req.Out, Images: want.Images}
	for _, f := range want.HostFiles {
		res.HostFiles = append(res.HostFiles, f.Name+" "+f.Version)
	}
	return res, nil
}
