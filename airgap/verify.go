package airgap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
)

// declaredBlob is a blob together with the unpacked size that an item declares for it.
type declaredBlob struct {
	format.Layer
	owner string // the first item that has it, or the purpose of a patch
}

// Verify verifies the content of all blobs, which Open does not do: their
// digests, that image configs match the layers, and that nothing unpacks to more
// than twice its declared size. It uses up to 4 CPUs. The error lists all
// problems found. progress may be nil; otherwise it is called from time to time,
// never concurrently, with the bytes done.
func (b *Bundle) Verify(ctx context.Context, progress func(done, total int64)) error {
	blobs := b.listDeclaredBlobs()
	// Start with the largest blobs; otherwise they finish last, on a single CPU.
	slices.SortStableFunc(blobs, func(x, y declaredBlob) int { return cmp.Compare(y.Size, x.Size) })
	total := int64(0)
	for _, c := range blobs {
		total += c.Size
	}
	src := blob.WithProgress(b, blob.NewProgress(total, progress))
	wrong := make([]error, len(blobs))
	var verifier blob.Verifier
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(min(runtime.GOMAXPROCS(0), 4))
	for i, c := range blobs {
		group.Go(func() error {
			wrong[i] = verifier.Verify(groupCtx, src, c.Descriptor, c.Unpacked)
			return groupCtx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var errs findings
	for i, err := range wrong {
		if err != nil {
			errs.addError(fmt.Errorf("%s, blob %s: %w", blobs[i].owner, blobs[i].Digest, problemCause(err)))
		}
	}
	if len(errs) == 0 {
		b.checkImageConfigs(ctx, &errs)
	}
	if len(errs) == 0 {
		return nil
	}
	return b.toProblem("verify", errs.toError())
}

// listDeclaredBlobs returns each blob once, without the missing ones that no source has.
func (b *Bundle) listDeclaredBlobs() []declaredBlob {
	var blobs []declaredBlob
	seen := map[digest.Digest]bool{}
	add := func(l format.Layer, it format.Item) {
		if !seen[l.Digest] && (b.missingBlobs.available[l.Digest] || !b.missingBlobs.contains(l.Digest)) {
			blobs = append(blobs, declaredBlob{l, it.String()})
		}
		seen[l.Digest] = true
	}
	for _, it := range b.items {
		for _, l := range it.Layers {
			add(l, it)
		}
		add(format.Layer{Descriptor: it.Manifest, Unpacked: -1}, it)
		add(format.Layer{Descriptor: it.Config, Unpacked: -1}, it)
	}
	if b.delta != nil {
		for _, p := range b.delta.Patches {
			if !seen[p.Patch.Digest] {
				blobs = append(blobs, declaredBlob{format.Layer{Descriptor: p.Patch, Unpacked: -1}, "patch for " + p.Blob.String()})
			}
			seen[p.Patch.Digest] = true
		}
	}
	return blobs
}

// checkImageConfigs checks that the images' configs match their manifests.
func (b *Bundle) checkImageConfigs(ctx context.Context, errs *findings) {
	left := limit.Budget(limit.Manifests)
	for _, it := range b.items {
		if it.Kind != format.KindImage {
			continue
		}
		if !left.Take(it.Config.Size) {
			errs.addError(fmt.Errorf("the configs of its images have more than %d bytes", limit.Manifests))
			return
		}
		raw, err := blob.ReadAll(ctx, b, it.Config, limit.Document)
		if err == nil {
			_, err = it.DiffIDs(raw)
		}
		if err != nil {
			errs.addError(problemCause(err))
		}
	}
}

// problemCause returns the cause of a problem without its prefix, so that it can
// be wrapped into another problem.
func problemCause(err error) error {
	var p *problem.Problem
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
