package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/delta"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

// DiffResult describes a delta.
type DiffResult struct {
	Path    string        `json:"path"`
	Size    int64         `json:"size"` // bytes
	Full    int64         `json:"full"` // bytes of the bundle that it results in
	Digest  digest.Digest `json:"digest"`
	Base    digest.Digest `json:"base"`    // of the bundle that it requires
	Patches int           `json:"patches"` // parts that are patches of older parts
	Parts   int           `json:"parts"`   // parts that are stored in full
}

// Diff writes a delta to out: the parts of the bundle next that the bundle old lacks.
func Diff(ctx context.Context, old, next, out string) (res DiffResult, err error) {
	if err := CheckOutputFile(out, old, next); err != nil {
		return res, err
	}
	before, err := openFull(ctx, old)
	if err != nil {
		return res, err
	}
	defer func() { _ = before.Close() }()
	after, err := openFull(ctx, next)
	if err != nil {
		return res, err
	}
	defer func() { _ = after.Close() }()
	d, err := delta.Compare(ctx, before, after, filepath.Dir(out))
	if err != nil {
		return res, asProblem(ctx, "compare "+old+" with "+next, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	res = DiffResult{Path: out, Full: after.Size(), Digest: after.Digest(), Base: before.Digest(), Patches: d.PatchCount()}
	res.Parts = len(d.Blobs) - res.Patches
	res.Size, err = writeArchive(ctx, d.Archive, out)
	return res, err
}

// openFull opens a bundle that contains all its parts.
func openFull(ctx context.Context, path string) (*airgap.Bundle, error) {
	b, err := airgap.Open(ctx, path)
	if err == nil && len(b.Missing()) > 0 {
		err = errors.Join(problem.New(problem.ExitBundle, "use bundle "+path, fmt.Errorf("it is thin or a delta: %d of its parts are missing", len(b.Missing())), "name the full bundle"), b.Close())
	}
	return b, err
}

// Patch applies the delta change to the bundle old, verifies every byte of the
// resulting bundle and writes it to out. Rebuilt parts are stored in a temporary folder
// beside out. progress may be nil; its units are bytes.
func Patch(ctx context.Context, old, change, out string, progress func(done, total int64)) (res BuildResult, err error) {
	if err := CheckOutputFile(out, old, change); err != nil {
		return res, err
	}
	before, err := openFull(ctx, old)
	if err != nil {
		return res, err
	}
	defer func() { _ = before.Close() }()
	after, err := airgap.Open(ctx, change)
	if err != nil {
		return res, err
	}
	defer func() { _ = after.Close() }()
	if err := delta.CheckBase(after, before); err != nil {
		return res, err
	}
	parts, err := filepath.Abs(filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+".plinth-parts")) // a name that nothing else uses
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, host.Local("/").RemoveAll(parts)) }()
	whole, err := applyDelta(ctx, after, before, parts)
	if err != nil {
		return res, asProblem(ctx, "apply the delta "+change+" to "+old, err)
	}
	if err := whole.Verify(ctx, progress); err != nil {
		return res, err
	}
	res = BuildResult{Path: out, Digest: after.Digest()}
	res.Size, err = writeArchive(ctx, build.FullArchive(whole), out)
	return res, err
}

// applyDelta returns the complete newer bundle. Rebuilt parts are stored in the folder parts.
func applyDelta(ctx context.Context, after, before *airgap.Bundle, parts string) (*airgap.Bundle, error) {
	if _, err := os.Stat(filepath.Dir(parts)); err != nil {
		return nil, err // do not create the output folder itself
	}
	folder, err := blob.CreateFolder(parts)
	if err != nil {
		return nil, err
	}
	src, err := delta.Base{Old: before, Folder: folder}.Apply(ctx, after, after.Missing())
	if err != nil {
		return nil, err
	}
	return after.WithBlobSource(src, after.Missing()), nil
}

// writeArchive writes a bundle to out and returns its size in bytes.
func writeArchive(ctx context.Context, a build.Archive, out string) (int64, error) {
	if err := a.WriteFile(ctx, out); err != nil {
		return 0, err
	}
	st, err := os.Stat(out)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// asProblem wraps err in a problem, unless it is one already or ctx has ended.
func asProblem(ctx context.Context, doing string, err error) error {
	var p *problem.Problem
	if errors.As(err, &p) || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitBundle, doing, err, "check that the output folder is writable and has free space: temporary files are stored there")
}
