package airgap

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
)

// missingBlobs are the blobs that a thin bundle or a delta references but does not contain.
type missingBlobs struct {
	blobs     []ocispec.Descriptor
	digests   map[digest.Digest]bool // of blobs
	source    blob.Source            // nil until WithBlobSource sets one
	available map[digest.Digest]bool // blobs that source has
}

// Missing returns the blobs that the file references but does not contain, in the
// order of the index. For a full bundle there are none. A thin bundle contains no
// content of images and host files at all; a delta contains the part that an
// older bundle does not have. Any other missing blob means a damaged file.
func (b *Bundle) Missing() []ocispec.Descriptor { return b.missingBlobs.blobs }

// Delta returns the delta's description, which names the bundle it is based on,
// or nil if the bundle is not a delta. The caller must not modify it.
func (b *Bundle) Delta() *format.Delta { return b.delta }

// FindLayer returns the layer with digest d and reports whether an item of the
// bundle has one.
func (b *Bundle) FindLayer(d digest.Digest) (format.Layer, bool) {
	l, ok := b.layers[d]
	return l, ok
}

// MissingSize returns the total size in bytes of the missing blobs.
func (b *Bundle) MissingSize() (sum int64) {
	for _, d := range b.missingBlobs.blobs {
		sum += d.Size
	}
	return sum
}

// WithBlobSource returns a copy of the bundle that reads the missing blobs listed
// in available from src. Verify covers them, too. The other missing blobs are not
// needed: the host already has their content.
func (b *Bundle) WithBlobSource(src blob.Source, available []ocispec.Descriptor) *Bundle {
	with := *b
	with.missingBlobs.source, with.missingBlobs.available = src, map[digest.Digest]bool{}
	for _, d := range available {
		with.missingBlobs.available[d.Digest] = true
	}
	return &with
}

// openBlob returns a verifying reader of a missing blob.
func (e missingBlobs) openBlob(ctx context.Context, desc ocispec.Descriptor, name string) (io.ReadCloser, error) {
	if !e.available[desc.Digest] {
		return nil, problem.New(problem.ExitBundle, "use bundle "+name, fmt.Errorf("it does not contain blob %s: it is a thin bundle or a delta", desc.Digest),
			"name the source of its content with --source or --base, or use the full bundle")
	}
	r, err := e.source.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	// A source may return unverified content; a bundle never does.
	return blob.NewReader(ctx, r, desc, name), nil
}

// contains reports whether d is one of the missing blobs.
func (e missingBlobs) contains(d digest.Digest) bool { return e.digests[d] }

// checkBlobs checks that every referenced blob is in the file and that every blob
// in the file is referenced. Only content blobs may be missing: all of them in a
// thin bundle, any of them in a delta.
func (b *Bundle) checkBlobs(errs *findings) {
	used, bulk := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	thin, damaged := missingBlobs{digests: map[digest.Digest]bool{}}, false
	var missing findings
	for _, it := range b.items {
		for _, d := range it.ContentBlobs() {
			bulk[d.Digest] = true
		}
	}
	for _, it := range b.items {
		for _, desc := range it.Blobs() {
			if used[desc.Digest] {
				continue
			}
			if used[desc.Digest] = true; len(used) > limit.Blobs {
				errs.addError(fmt.Errorf("it references more than %d blobs", limit.Blobs))
				return
			}
			_, err := b.findBlob(desc)
			switch {
			case err == nil:
				continue
			case bulk[desc.Digest] && errors.Is(err, errMissing):
				thin.blobs, thin.digests[desc.Digest] = append(thin.blobs, desc), true
			default:
				damaged = true
			}
			missing.addError(fmt.Errorf("%s: %w", it, err))
		}
	}
	if partial := 0 < len(thin.blobs) && len(thin.blobs) < len(bulk) && b.delta == nil; partial || damaged {
		*errs = append(*errs, missing...)
	} else {
		b.missingBlobs = thin
	}
	b.checkPatches(used, errs)
	b.checkUnreferencedBlobs(used, errs)
}

// checkPatches checks that the file contains every patch of a delta.
func (b *Bundle) checkPatches(used map[digest.Digest]bool, errs *findings) {
	if b.delta == nil {
		return
	}
	for _, p := range b.delta.Patches {
		if _, err := b.findBlob(p.Patch); err != nil {
			errs.addError(fmt.Errorf("patch for %s: %w", p.Blob, err))
		}
		used[p.Patch.Digest] = true
	}
}
