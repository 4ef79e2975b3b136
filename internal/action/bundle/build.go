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

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/lockfile"
	"github.com/plinthdev/plinth/internal/problem"
)

// BuildRequest describes the bundle to build.
type BuildRequest struct {
	Installer   string                  // file
	Application string                  // file; "" for none
	Source      string                  // folder in OCI image layout, or "registry"
	Downloads   Downloads               // for Source "registry"; its Note receives notices about the lock file, too
	Out         string                  // file to write
	Program     string                  // Plinth's executable that nodes may take in an upgrade; "" for this one
	SignKey     string                  // file with the private key; "" for an unsigned bundle
	Release     int64                   // release number of the vendor; 0 for none
	Thin        bool                    // omit the content of images and host files
	Platform    string                  // such as linux/arm64; "" means linux/amd64
	Locked      bool                    // refuse a source that differs from the lock file beside the Installer
	Expires     string                  // RFC 3339 time or date after which hosts refuse the bundle; "" for never
	Now         time.Time               // for the check of Expires
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
func Build(ctx context.Context, req BuildRequest) (res BuildResult, err error) {
	if err := CheckOutputFile(req.Out, append(layoutFiles(req.Source, req.Out), req.Installer, req.Application, req.SignKey, lockfile.Path(req.Installer))...); err != nil {
		return BuildResult{}, err
	}
	var labels build.Request
	signer, err := applyLabels(req, &labels)
	if err != nil {
		return BuildResult{}, err
	}
	in, files, err := readInstaller(ctx, req.Installer, req.Application, "build a bundle from these files")
	if err != nil {
		return BuildResult{}, err
	}
	src, closeSource, err := openSource(ctx, req.Source, req.Downloads, req.Platform, req.Out)
	if err != nil {
		return BuildResult{}, err
	}
	defer func() { err = errors.Join(err, closeSource()) }()
	lock, err := newLockCheck(req, in, src.platform)
	if err != nil {
		return BuildResult{}, err
	}
	if src.charts, err = src.readCharts(ctx, in, files[0], lock.note); err != nil {
		return BuildResult{}, err
	}
	want, err := resolveContents(ctx, in, src)
	if err != nil {
		return BuildResult{}, err
	}
	if want.Installer, err = src.bundledInstaller(in, files[0]); err != nil {
		return BuildResult{}, err
	}
	want.Layout, want.Thin, want.Progress, want.WorkDir = src.layout, req.Thin, req.Progress, filepath.Dir(req.Out)
	want.Release, want.Expires, want.Sign = labels.Release, labels.Expires, labels.Sign
	if want.Programs, err = namedPrograms(ctx, req.Program, src.platform, signer); err != nil {
		return BuildResult{}, err
	}
	if len(files) > 1 {
		want.Application = files[1].Data
	}
	found, err := gatherParts(ctx, src, lock, want)
	if err != nil {
		return BuildResult{}, err
	}
	if err := checkK0sConfig(ctx, in, src, lock.note); err != nil {
		return BuildResult{}, err
	}
	sum, err := build.WriteFile(ctx, want, req.Out)
	if err != nil {
		return BuildResult{}, err
	}
	if err := lock.writeAbsent(in, found); err != nil {
		return BuildResult{}, err
	}
	info, err := os.Stat(req.Out)
	if err != nil {
		return BuildResult{}, err
	}
	return BuildResult{Path: req.Out, Digest: sum, Size: info.Size(), Signer: signer.Fingerprint()}, nil
}

// gatherParts puts the parts of want into the layout of src and compares them with the lock. A
// published part that --locked refuses is not downloaded.
func gatherParts(ctx context.Context, src partSource, lock lockCheck, want build.Request) (found lockfile.Platform, err error) {
	if lock.strict && src.downloads != nil {
		if found, err = src.resolvePublished(ctx, want); err == nil {
			err = lock.compare(found)
		}
		if err != nil {
			return found, err
		}
	}
	if err = src.download(ctx, want); err == nil {
		found, err = src.resolveStored(ctx, want)
	}
	if err == nil {
		err = lock.compare(found)
	}
	return found, err
}

// applyLabels sets release number, expiry and signing key of the bundle in want. It
// returns the public key that verifies it, which is zero for an unsigned bundle.
func applyLabels(req BuildRequest, want *build.Request) (signer trust.PublicKey, err error) {
	if req.Release < 0 {
		return signer, problem.New(problem.ExitUsage, "set the release number", fmt.Errorf("%d is negative", req.Release), "number releases from 1 upwards")
	}
	want.Release = req.Release
	if req.Expires != "" {
		if want.Expires, err = time.Parse(time.RFC3339, req.Expires); err != nil {
			want.Expires, err = time.Parse(time.DateOnly, req.Expires)
		}
		if err != nil {
			return signer, problem.New(problem.ExitUsage, "parse --expires", fmt.Errorf("%q is not a date", req.Expires), "write it as 2030-01-31 or 2030-01-31T12:00:00Z")
		}
		if !want.Expires.After(req.Now) {
			return signer, problem.New(problem.ExitUsage, "set --expires", fmt.Errorf("%s is in the past: every host would refuse the bundle", req.Expires), "name a time in the future")
		}
	}
	if req.SignKey == "" {
		return signer, nil
	}
	key, err := source.PrivateKey(req.SignKey)
	if err != nil {
		return signer, err
	}
	want.Sign = key.Sign
	return key.Public()
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

// layoutFiles returns the files of a source folder that out could overwrite.
func layoutFiles(source, out string) []string {
	if source == fromRegistry {
		return nil
	}
	return []string{filepath.Join(source, "index.json"), filepath.Join(source, "oci-layout"), filepath.Join(source, "blobs", "sha256", filepath.Base(out))}
}
