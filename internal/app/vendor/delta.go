package vendor

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
	"github.com/plinthdev/plinth/internal/app/output"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

// DiffResult describes a delta.
type DiffResult struct {
	Path    string        `json:"path"`
	Size    int64         `json:"size"` // bytes
	Full    int64         `json:"full"` // bytes of the bundle that it makes
	Digest  digest.Digest `json:"digest"`
	Base    digest.Digest `json:"base"`    // of the bundle that it needs
	Patches int           `json:"patches"` // parts that are made from older ones
	Parts   int           `json:"parts"`   // parts that it holds as they are
}

// Diff writes what a newer bundle has and an older one lacks.
func Diff(ctx context.Context, old, next, out string) (res DiffResult, err error) {
	if err := output.File(out, old, next); err != nil {
		return res, err
	}
	before, err := full(ctx, old)
	if err != nil {
		return res, err
	}
	defer func() { _ = before.Close() }()
	after, err := full(ctx, next)
	if err != nil {
		return res, err
	}
	defer func() { _ = after.Close() }()
	d, err := delta.New(ctx, before, after, filepath.Dir(out))
	if err != nil {
		return res, failed(ctx, "compare "+old+" with "+next, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	res = DiffResult{Path: out, Full: after.Size(), Digest: after.Digest(), Base: before.Digest(), Patches: d.Patches()}
	res.Parts = len(d.Blobs) - res.Patches
	res.Size, err = written(ctx, d.Archive, out)
	return res, err
}

// full opens a bundle that holds all its parts.
func full(ctx context.Context, path string) (*airgap.Bundle, error) {
	b, err := airgap.Open(ctx, path)
	if err == nil && len(b.Absent()) > 0 {
		err = errors.Join(problem.New(problem.ExitBundle, "use bundle "+path, fmt.Errorf("%d of its parts are not in it: it is thin, or a delta", len(b.Absent())), "name the full bundle"), b.Close())
	}
	return b, err
}

// Merge writes the newer bundle that a delta makes of an older one, and proves
// every byte of it. The parts that are made stand beside it until it is written.
func Merge(ctx context.Context, old, change, out string, progress func(done, total int64)) (res Result, err error) {
	if err := output.File(out, old, change); err != nil {
		return res, err
	}
	before, err := full(ctx, old)
	if err != nil {
		return res, err
	}
	defer func() { _ = before.Close() }()
	after, err := airgap.Open(ctx, change)
	if err != nil {
		return res, err
	}
	defer func() { _ = after.Close() }()
	if err := delta.Check(after, before); err != nil {
		return res, err
	}
	parts, err := filepath.Abs(filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+".plinth-parts")) // nobody else's
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, host.Local("/").RemoveAll(parts)) }()
	whole, err := merged(ctx, after, before, parts)
	if err != nil {
		return res, failed(ctx, "merge "+change+" with "+old, err)
	}
	if err := whole.Verify(ctx, progress); err != nil {
		return res, err
	}
	res = Result{Path: out, Digest: after.Digest()}
	res.Size, err = written(ctx, build.Full(whole), out)
	return res, err
}

// merged is the newer bundle, whole; what is made of it stands in the folder parts.
func merged(ctx context.Context, after, before *airgap.Bundle, parts string) (*airgap.Bundle, error) {
	if _, err := os.Stat(filepath.Dir(parts)); err != nil {
		return nil, err // no folder is made that was not asked for
	}
	folder, err := blob.CreateFolder(parts)
	if err != nil {
		return nil, err
	}
	src, err := delta.Base{Old: before, Folder: folder}.Apply(ctx, after, after.Absent())
	if err != nil {
		return nil, err
	}
	return after.With(src, after.Absent()), nil
}

// written writes a bundle and gives its size in bytes.
func written(ctx context.Context, a build.Archive, out string) (int64, error) {
	if err := a.File(ctx, out); err != nil {
		return 0, err
	}
	st, err := os.Stat(out)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// failed makes a problem of what is none yet.
func failed(ctx context.Context, doing string, err error) error {
	var p *problem.Problem
	if errors.As(err, &p) || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitBundle, doing, err, "see that the folder of the output has room and may be written to: work files stand there")
}
