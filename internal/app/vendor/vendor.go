// Package vendor owns the verbs of the vendor's engineer: making a bundle and
// looking into one. It refuses to touch a host beyond the files it is given.
package vendor

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
	"github.com/plinthdev/plinth/airgap/registry"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/app/delivery"
	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/app/output"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// Request says which bundle to make.
type Request struct {
	Installer   string                  // file
	Application string                  // file; "" for none
	Source      string                  // folder in OCI image layout, or "registry"
	Out         string                  // file to write
	SignKey     string                  // file with the private key; "" for an unsigned bundle
	Release     int64                   // the vendor's number of this release; 0 for none
	Thin        bool                    // leave out the content of images and host files
	Expires     string                  // RFC 3339 time or date after which it is not taken; "" for never
	Progress    func(done, total int64) // bytes; may be nil
}

// Result describes the bundle that was made.
type Result struct {
	Path   string        `json:"path"`
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`             // bytes
	Signer string        `json:"signer,omitempty"` // fingerprint of the key that verifies it
}

// Build lints, asks the gate, resolves every part and writes the bundle:
// what no customer could install is not built.
func Build(ctx context.Context, req Request) (Result, error) {
	if err := output.File(req.Out, append(sources(req), req.Installer, req.Application, req.SignKey)...); err != nil {
		return Result{}, err
	}
	paths := []string{req.Installer}
	if req.Application != "" {
		paths = append(paths, req.Application)
	}
	files, err := manifest.Files(paths)
	if err != nil {
		return Result{}, err
	}
	report := manifest.Check(files)
	if err := report.Err("build a bundle from these files"); err != nil {
		return Result{}, err
	}
	// Lint takes the two files in any order, the bundle does not.
	if spec.Lint(files[:1]).Installer == nil {
		return Result{}, problem.New(problem.ExitConfig, "build a bundle", errors.New(req.Installer+" is not an Installer"), "name the Installer with --installer")
	}
	want, err := contents(report.Installer)
	if err != nil {
		return Result{}, err
	}
	want.Installer, want.Thin, want.Progress, want.Work = files[0].Data, req.Thin, req.Progress, filepath.Dir(req.Out)
	signer, err := label(req, &want)
	if err != nil {
		return Result{}, err
	}
	if len(files) > 1 {
		want.Application = files[1].Data
	}
	done, err := gather(ctx, req, &want)
	if err != nil {
		return Result{}, err
	}
	sum, err := build.File(ctx, want, req.Out)
	if err != nil {
		return Result{}, err
	}
	if err := done(); err != nil {
		return Result{}, err
	}
	info, err := os.Stat(req.Out)
	if err != nil {
		return Result{}, err
	}
	return Result{Path: req.Out, Digest: sum, Size: info.Size(), Signer: signer}, nil
}

// label puts on a bundle what the vendor says of it: release, expiry and
// signature. It gives the fingerprint of the signing key, "" for none.
func label(req Request, want *build.Request) (signer string, err error) {
	if req.Release < 0 {
		return "", problem.New(problem.ExitUsage, "number the release", fmt.Errorf("%d is negative", req.Release), "count releases from 1 upwards")
	}
	want.Release = req.Release
	if req.Expires != "" {
		if want.Expires, err = time.Parse(time.RFC3339, req.Expires); err != nil {
			want.Expires, err = time.Parse(time.DateOnly, req.Expires)
		}
		if err != nil {
			return "", problem.New(problem.ExitUsage, "understand --expires", fmt.Errorf("%q is no date", req.Expires), "write it as 2030-01-31 or 2030-01-31T12:00:00Z")
		}
	}
	if req.SignKey == "" {
		return "", nil
	}
	key, err := delivery.PrivateKey(req.SignKey)
	if err != nil {
		return "", err
	}
	public, err := key.Public()
	want.Sign = key.Sign
	return public.Fingerprint(), err
}

// contents resolves an Installer into the parts of its bundle, in the order in
// which a starting host needs them.
func contents(in *spec.Installer) (build.Request, error) {
	req := build.Request{Name: in.Metadata.Name, HostFiles: []build.HostFile{{Name: "k0s", Version: in.Spec.K0s.Version}}}
	if in.Spec.Kotsadm != nil {
		req.HostFiles = append(req.HostFiles, build.HostFile{Name: "kots", Version: in.Spec.Kotsadm.Version})
	}
	// The address does not matter here: no image depends on it.
	refs, err := k0s.Images(k0s.SettingsFor(in, "127.0.0.1", "localhost"))
	if err != nil {
		return req, problem.New(problem.ExitConfig, "resolve the cluster's images", err, "mend spec.k0s.config in the Installer")
	}
	req.Images = refs
	parts, err := addons.Resolve(in, "/") // the data folder does not matter to images and charts
	if err != nil {
		return req, err
	}
	for _, p := range parts {
		req.Images = append(req.Images, p.Refs()...)
		req.Charts = append(req.Charts, build.Chart{Name: p.Chart.Name, Version: p.Chart.Version, Archive: p.Chart.Archive})
	}
	return req, nil
}

// Inspect says what a bundle holds.
func Inspect(ctx context.Context, path string) (airgap.Summary, error) {
	b, err := airgap.Open(ctx, path)
	if err != nil {
		return airgap.Summary{}, err
	}
	defer func() { _ = b.Close() }()
	return b.Inspect(), nil
}

// VerifyRequest says which bundle to prove.
type VerifyRequest struct {
	Path     string
	Key      string                  // file with the vendor's public key; "" for the one sealed onto this executable
	Now      time.Time               // a bundle may have expired
	Progress func(done, total int64) // bytes; may be nil
}

// Verify proves every byte of a bundle and says what it holds.
// With a key, from keyFile or sealed onto this executable, it must be signed
// with that; without any key whose it is stays unproved.
func Verify(ctx context.Context, req VerifyRequest) (airgap.Summary, error) {
	key, err := delivery.Key(req.Key)
	if err != nil {
		return airgap.Summary{}, err
	}
	b, err := airgap.Open(ctx, req.Path)
	if err != nil {
		return airgap.Summary{}, err
	}
	defer func() { _ = b.Close() }()
	if !key.IsZero() {
		if _, err := trust.Judge(req.Path, b, trust.Terms{Key: key, Now: req.Now}); err != nil {
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

// fromRegistry is the source that names the registries and release downloads
// of the projects themselves.
const fromRegistry = "registry"

// sources are the files of a source folder that a bundle could take the place of.
func sources(req Request) []string {
	if req.Source == fromRegistry {
		return nil
	}
	return []string{
		filepath.Join(req.Source, "index.json"), filepath.Join(req.Source, "oci-layout"),
		filepath.Join(req.Source, "blobs", "sha256", filepath.Base(req.Out)),
	}
}

// gather names the folder that has the parts of want; those of the registries
// are brought into a folder beside the bundle first, where a second try finds
// what the first one got. done removes it.
func gather(ctx context.Context, req Request, want *build.Request) (done func() error, err error) {
	if req.Source != fromRegistry {
		want.Layout = req.Source
		return func() error { return nil }, nil
	}
	folder, err := filepath.Abs(req.Out + ".parts")
	if err != nil {
		return nil, err
	}
	want.Layout = folder
	err = registry.Fetch(ctx, registry.Request{Folder: folder, Images: want.Images, HostFiles: want.HostFiles, Platform: want.Platform, Progress: req.Progress})
	return func() error { return host.Local("/").RemoveAll(folder) }, err
}
