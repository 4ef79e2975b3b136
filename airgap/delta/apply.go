package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
)

// CheckBase returns a Problem with the exit code for a bad bundle if delta is not a
// delta, was not created from old, or if old is not a full bundle.
func CheckBase(delta, old *airgap.Bundle) error {
	d := delta.Delta()
	switch {
	case d == nil:
		return newBaseError(errors.New("the newer bundle is not a delta: it needs no older bundle"), "name a delta that `plinth bundle diff` has created; to install a full bundle, omit --base")
	case d.Base != old.Digest():
		return newBaseError(fmt.Errorf("the delta was created from the bundle %s, but this is the bundle %s", d.Base, old.Digest()), "name the bundle from which the delta was created")
	case len(old.Missing()) > 0:
		return newBaseError(fmt.Errorf("%d of its blobs are missing", len(old.Missing())), "name the full bundle from which the delta was created")
	}
	return nil
}

// Base is what a delta is applied to.
type Base struct {
	Old      *airgap.Bundle          // the bundle from which the delta was created (see CheckBase)
	Folder   blob.Folder             // for rebuilt blobs
	Progress func(done, total int64) // bytes; may be nil
}

// Apply rebuilds, in the folder, the wanted blobs that are missing in both the delta
// and the older bundle. Each blob is verified; blobs that the folder already has
// are not rebuilt. Apply returns a source of all wanted blobs, which is valid as
// long as the older bundle is open. Errors are Problems with the exit code for a
// bad bundle.
func (b Base) Apply(ctx context.Context, delta *airgap.Bundle, wanted []ocispec.Descriptor) (blob.Source, error) {
	patches := map[digest.Digest]format.Patch{}
	for _, p := range delta.Delta().Patches {
		patches[p.Blob] = p
	}
	total := int64(0)
	for _, desc := range wanted {
		total += desc.Size
	}
	meter := blob.NewProgress(total, b.Progress)
	work := newBudget(b.Old.Size())
	a := applier{delta, b.Old, tempDir(b.Folder.Dir()), &work}
	for _, desc := range wanted {
		if _, err := b.Old.Section(desc); err != nil {
			p, ok := patches[desc.Digest]
			if !ok {
				return nil, newBaseError(fmt.Errorf("blob %s is neither in the delta nor in the older bundle", desc.Digest), "get the full bundle")
			}
			err := b.Folder.Put(ctx, bareDescriptor(desc), func() (io.ReadCloser, error) { return a.rebuildBlob(ctx, p) })
			if err != nil {
				return nil, b.wrapApplyError(ctx, err)
			}
		}
		meter.Add(int(desc.Size))
	}
	meter.Finish()
	return combinedSource{b.Folder, b.Old}, nil
}

// combinedSource is a source of the rebuilt blobs and of those in the older bundle.
type combinedSource struct {
	folder blob.Folder
	old    *airgap.Bundle
}

func (b combinedSource) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if b.folder.Has(desc) {
		return b.folder.Open(ctx, desc)
	}
	return b.old.Open(ctx, desc)
}

type applier struct {
	delta, old *airgap.Bundle
	temp       tempDir
	work       *limit.Budget // bytes that may still be unpacked and rebuilt
}

// rebuildBlob returns a reader of the blob that a patch gives. The content is not
// verified, but its size is limited: no more is unpacked than the indices of the
// two bundles declare.
func (a applier) rebuildBlob(ctx context.Context, p format.Patch) (io.ReadCloser, error) {
	if p.Packed != format.PackedBetter {
		return nil, fmt.Errorf("blob %s is compressed as %q, which this version of plinth does not support", p.Blob, p.Packed)
	}
	to, _ := a.delta.FindLayer(p.Blob)
	from, ok := a.old.FindLayer(p.From.Digest)
	if !ok || !isInProportion(from, to) {
		return nil, fmt.Errorf("blob %s is to be rebuilt from %s, which is not a suitable blob of the older bundle", p.Blob, p.From.Digest)
	}
	if !takeWork(a.work, from, to) {
		return nil, errors.New("its patches unpack and rebuild more than a delta of the older bundle may")
	}
	before, err := a.temp.unpackLayer(ctx, a.old, from)
	if err != nil {
		return nil, err
	}
	patch, err := a.delta.Open(ctx, p.Patch)
	if err != nil {
		before.close()
		return nil, err
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.CloseWithError(errors.Join(writeRebuilt(w, patch, before, to.Unpacked), patch.Close()))
	}()
	return rebuiltReader{r, func() { <-done; before.close() }}, nil
}

// writeRebuilt applies a patch to the content before, and writes the result to w,
// compressed like the original blob. size is the declared size of the result.
func writeRebuilt(w io.Writer, patch io.Reader, before tempFile, size int64) error {
	r, plain := io.Pipe()
	go func() { _ = plain.CloseWithError(decodePatch(plain, patch, before.newSection(), size)) }()
	defer func() { _ = r.Close() }()
	return compressLayer(w, r)
}

// rebuiltReader reads a rebuilt blob; Close also stops the rebuilding.
type rebuiltReader struct {
	*io.PipeReader
	end func()
}

func (r rebuiltReader) Close() error {
	err := r.PipeReader.Close()
	r.end()
	return err
}

// wrapApplyError returns the error of Apply: a cancellation as it is, anything else
// as a Problem that distinguishes a full disk from damaged content.
func (b Base) wrapApplyError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var file *fs.PathError
	if dir := b.Folder.Dir(); errors.As(err, &file) && strings.HasPrefix(file.Path, dir) {
		return problem.New(problem.ExitBundle, "store the rebuilt blobs", file, "free some space in "+dir+": unpacked blobs are stored there temporarily")
	}
	var p *problem.Problem
	if errors.As(err, &p) {
		err = p.Err
	}
	return newBaseError(err, "the delta or the older bundle is damaged: copy both again from their source, or get the full bundle")
}

func newBaseError(cause error, hint string) error {
	return problem.New(problem.ExitBundle, "use the older bundle", cause, hint)
}
