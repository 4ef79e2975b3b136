// Package bundle builds, inspects, verifies, compares, embeds and publishes bundles.
package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// BuildRequest describes the bundle to build.
type BuildRequest struct {
	Installer   string                  // file
	Application string                  // file; "" for none
	Source      string                  // folder in OCI image layout, or "registry"
	Downloads   Downloads               // for Source "registry"
	Out         string                  // file to write
	SignKey     string                  // file with the private key; "" for an unsigned bundle
	Release     int64                   // release number of the vendor; 0 for none
	Thin        bool                    // omit the content of images and host files
	Expires     string                  // RFC 3339 time or date after which hosts refuse the bundle; "" for never
	Progress    func(done, total int64) // bytes; may be nil
}

// BuildResult describes the written bundle. Its JSON format is public.
type BuildResult struct {
	Path   string        `json:"path"`
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`             // bytes
	Signer string        `json:"signer,omitempty"` // fingerprint of the key that verifies it
}

// Build lints the files, checks the compatibility gate, resolves every part and writes
// the bundle. It refuses what no customer could install.
func Build(ctx context.Context, req BuildRequest) (BuildResult, error) {
	if err := CheckOutputFile(req.Out, append(sourceFiles(req), req.Installer, req.Application, req.SignKey)...); err != nil {
		return BuildResult{}, err
	}
	paths := []string{req.Installer}
	if req.Application != "" {
		paths = append(paths, req.Application)
	}
	files, err := config.ReadFiles(paths)
	if err != nil {
		return BuildResult{}, err
	}
	report := config.LintFiles(files)
	if err := report.Err("build a bundle from these files"); err != nil {
		return BuildResult{}, err
	}
	// Lint accepts the two files in any order, but the bundle needs to know which is the Installer.
	if spec.Lint(files[:1]).Installer == nil {
		return BuildResult{}, problem.New(problem.ExitConfig, "build a bundle", errors.New(req.Installer+" is not an Installer"), "name the Installer with --installer")
	}
	want, err := resolveContents(report.Installer)
	if err != nil {
		return BuildResult{}, err
	}
	want.Installer, want.Thin, want.Progress, want.WorkDir = files[0].Data, req.Thin, req.Progress, filepath.Dir(req.Out)
	signer, err := applyLabels(req, &want)
	if err != nil {
		return BuildResult{}, err
	}
	if len(files) > 1 {
		want.Application = files[1].Data
	}
	done, err := gatherParts(ctx, req, &want)
	if err != nil {
		return BuildResult{}, err
	}
	sum, err := build.WriteFile(ctx, want, req.Out)
	if err != nil {
		return BuildResult{}, err
	}
	if err := done(); err != nil {
		return BuildResult{}, err
	}
	info, err := os.Stat(req.Out)
	if err != nil {
		return BuildResult{}, err
	}
	return BuildResult{Path: req.Out, Digest: sum, Size: info.Size(), Signer: signer}, nil
}

// applyLabels sets release number, expiry and signing key of the bundle in want. It
// returns the fingerprint of the signing key, or "" for an unsigned bundle.
func applyLabels(req BuildRequest, want *build.Request) (signer string, err error) {
	if req.Release < 0 {
		return "", problem.New(problem.ExitUsage, "set the release number", fmt.Errorf("%d is negative", req.Release), "number releases from 1 upwards")
	}
	want.Release = req.Release
	if req.Expires != "" {
		if want.Expires, err = time.Parse(time.RFC3339, req.Expires); err != nil {
			want.Expires, err = time.Parse(time.DateOnly, req.Expires)
		}
		if err != nil {
			return "", problem.New(problem.ExitUsage, "parse --expires", fmt.Errorf("%q is not a date", req.Expires), "write it as 2030-01-31 or 2030-01-31T12:00:00Z")
		}
	}
	if req.SignKey == "" {
		return "", nil
	}
	key, err := source.PrivateKey(req.SignKey)
	if err != nil {
		return "", err
	}
	public, err := key.Public()
	want.Sign = key.Sign
	return public.Fingerprint(), err
}

// resolveContents returns the parts of the bundle for an Installer, in the order in
// which a starting host needs them.
func resolveContents(in *spec.Installer) (build.Request, error) {
	req := build.Request{Name: in.Metadata.Name, HostFiles: []build.HostFile{{Name: "k0s", Version: in.Spec.K0s.Version}}}
	if in.Spec.Kotsadm != nil {
		req.HostFiles = append(req.HostFiles, build.HostFile{Name: "kots", Version: in.Spec.Kotsadm.Version})
	}
	// Any address will do: no image depends on it.
	refs, err := k0s.Images(k0s.NewSettings(in, "127.0.0.1", "localhost"))
	if err != nil {
		return req, problem.New(problem.ExitConfig, "resolve the cluster's images", err, "fix spec.k0s.config in the Installer")
	}
	req.Images = refs
	parts, err := addons.Resolve(in, "/") // images and charts do not depend on the data folder
	if err != nil {
		return req, err
	}
	for _, p := range parts {
		req.Images = append(req.Images, p.ImageRefs()...)
		req.Charts = append(req.Charts, build.Chart{Name: p.Chart.Name, Version: p.Chart.Version, Archive: p.Chart.Archive})
	}
	return req, nil
}

// Inspect returns a summary of the bundle at path. It does not verify the content.
func Inspect(ctx context.Context, path string) (airgap.Summary, error) {
	b, err := airgap.Open(ctx, path)
	if err != nil {
		return airgap.Summary{}, err
	}
	defer func() { _ = b.Close() }()
	return b.Inspect(), nil
}

// VerifyRequest describes the bundle to verify.
type VerifyRequest struct {
	Path     string
	Key      string                  // file with the vendor's public key; "" for the key embedded in this executable
	Now      time.Time               // for the check of the expiry
	Progress func(done, total int64) // bytes; may be nil
}

// Verify verifies every byte of a bundle and returns its summary. With a key, from
// req.Key or embedded in this executable, the bundle must also be signed with it.
// Without a key, the vendor of the bundle stays unverified.
func Verify(ctx context.Context, req VerifyRequest) (airgap.Summary, error) {
	key, err := source.PublicKey(req.Key)
	if err != nil {
		return airgap.Summary{}, err
	}
	b, err := airgap.Open(ctx, req.Path)
	if err != nil {
		return airgap.Summary{}, err
	}
	defer func() { _ = b.Close() }()
	if !key.IsZero() {
		if _, err := trust.Verify(req.Path, b, trust.Policy{Key: key, Now: req.Now}); err != nil {
			return airgap.Summary{}, err
		}
	}
	if err := b.Verify(ctx, req.Progress); err != nil {
		return airgap.Summary{}, err
	}
	sum := b.Inspect()
	sum.Verified = key.Fingerprint()
	return sum, nil
}
