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
	"github.com/plinthdev/plinth/internal/problem"
)

// elsewhere is what a thin bundle or a delta names and does not hold.
type elsewhere struct {
	blobs []ocispec.Descriptor
	src   blob.Source            // nil until With names one
	here  map[digest.Digest]bool // what src has
}

// Absent lists the blobs that the file names and does not hold, in its order;
// none for a full bundle. A thin bundle holds no content of images and host
// files at all, a delta that which an older bundle lacks: anything else is damage.
func (b *Bundle) Absent() []ocispec.Descriptor { return b.absent.blobs }

// Delta says from which bundle this one was made that holds only what is new
// in it; nil for any other. It is shared and must not be changed.
func (b *Bundle) Delta() *format.Delta { return b.delta }

// Layer gives what the items say of a blob of theirs that is a layer.
func (b *Bundle) Layer(d digest.Digest) (format.Layer, bool) {
	for _, it := range b.items {
		for _, l := range it.Layers {
			if l.Digest == d {
				return l, true
			}
		}
	}
	return format.Layer{}, false
}

// AbsentSize is how many bytes the absent blobs have.
func (b *Bundle) AbsentSize() (sum int64) {
	for _, d := range b.absent.blobs {
		sum += d.Size
	}
	return sum
}

// With is the bundle with those of its absent blobs that are listed in here
// read from src. Verify proves them too. The others stay absent: the host has
// what they are for.
func (b *Bundle) With(src blob.Source, here []ocispec.Descriptor) *Bundle {
	with := *b
	with.absent.src, with.absent.here = src, map[digest.Digest]bool{}
	for _, d := range here {
		with.absent.here[d.Digest] = true
	}
	return &with
}

// open gives an absent blob.
func (e elsewhere) open(ctx context.Context, desc ocispec.Descriptor, name string) (io.ReadCloser, error) {
	if !e.here[desc.Digest] {
		return nil, problem.New(problem.ExitBundle, "use bundle "+name, fmt.Errorf("it does not hold the blob %s: it is thin, or a delta", desc.Digest),
			"name where its content is with --source or --base, or use the full bundle")
	}
	r, err := e.src.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	// A source need not prove what it gives; a bundle does.
	return blob.NewReader(ctx, r, desc, name), nil
}

// has tells whether the blob is one of the absent ones.
func (e elsewhere) has(d digest.Digest) bool {
	for _, a := range e.blobs {
		if a.Digest == d {
			return true
		}
	}
	return false
}

// checkBlobs: every blob that is named is there, every blob there is named.
// Only the whole bulk may be missing, and of a delta any of it.
func (b *Bundle) checkBlobs(errs *findings) {
	used, bulk := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	var missing findings
	for _, it := range b.items {
		for _, d := range it.Bulk() {
			bulk[d.Digest] = true
		}
	}
	for _, it := range b.items {
		for _, desc := range it.Blobs() {
			if _, err := b.find(desc); err != nil && !used[desc.Digest] {
				missing.add(fmt.Errorf("%s: %w", it, err))
				if bulk[desc.Digest] && errors.Is(err, errMissing) {
					b.absent.blobs = append(b.absent.blobs, desc)
				}
			}
			used[desc.Digest] = true
		}
	}
	if partial := len(b.absent.blobs) < len(bulk) && b.delta == nil; partial || len(missing) > len(b.absent.blobs) {
		b.absent.blobs = nil
		*errs = append(*errs, missing...)
	}
	b.checkPatches(used, errs)
	b.checkStray(used, errs)
}

// checkPatches: every patch of a delta is there.
func (b *Bundle) checkPatches(used map[digest.Digest]bool, errs *findings) {
	if b.delta == nil {
		return
	}
	for _, p := range b.delta.Patches {
		if _, err := b.find(p.Patch); err != nil {
			errs.add(fmt.Errorf("patch for %s: %w", p.Blob, err))
		}
		used[p.Patch.Digest] = true
	}
}
