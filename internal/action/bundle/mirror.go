package bundle

import (
	"context"
	"path/filepath"

	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/problem"
)

// MirrorRequest describes the folder to fill.
type MirrorRequest struct {
	Installer string // file
	Out       string // folder in OCI image layout; created if missing
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
func Mirror(ctx context.Context, req MirrorRequest) (MirrorResult, error) {
	if req.Out == "" {
		return MirrorResult{}, problem.Newf(problem.ExitUsage, "mirror the parts of an Installer", "name the folder; a variable in a script may be empty", "the name of the folder is empty")
	}
	files, err := config.ReadFiles([]string{req.Installer})
	if err != nil {
		return MirrorResult{}, err
	}
	report := config.LintFiles(files)
	if err := report.Err("mirror the parts of this Installer"); err != nil {
		return MirrorResult{}, err
	}
	if report.Installer == nil {
		return MirrorResult{}, problem.Newf(problem.ExitConfig, "mirror the parts of an Installer", "name the Installer with --installer", "%s is not an Installer", req.Installer)
	}
	want, err := resolveContents(report.Installer)
	if err != nil {
		return MirrorResult{}, err
	}
	folder, err := filepath.Abs(req.Out)
	if err != nil {
		return MirrorResult{}, err
	}
	unlock, err := req.Downloads.fetch(ctx, pull.Request{Folder: folder, Images: want.Images, HostFiles: want.HostFiles, Platform: want.Platform})
	if err != nil {
		return MirrorResult{}, err
	}
	res := MirrorResult{Path: req.Out, Images: want.Images}
	for _, f := range want.HostFiles {
		res.HostFiles = append(res.HostFiles, f.Name+" "+f.Version)
	}
	return res, unlock()
}
