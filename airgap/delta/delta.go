// Package delta creates the difference between two bundles, and rebuilds the newer
// bundle from it and the older one, byte for byte. It trusts nothing in a delta:
// rebuilt content is verified against the newer bundle's index.
package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
)

const (
	// minPatchedSize is the minimum size in bytes of a changed blob that is stored
	// as a patch instead of as it is.
	minPatchedSize = 64 << 10
	// A blob is patched only from one that unpacks to at most maxSizeFactor times
	// as many bytes plus maxSizeMargin. So the signed index limits the cost of
	// applying a delta.
	maxSizeFactor = 4
	maxSizeMargin = 64 << 20
)

// Diff is the content of next that old lacks, ready to be written. Large changed
// blobs are stored as patches where those are smaller and give exactly the same
// bytes. Close must be called after use.
type Diff struct {
	build.Archive
	temp       tempDir
	work       limit.Budget               // what the delta's user may still unpack and rebuild
	patchFiles map[digest.Digest]tempFile // by the digest of the patch
	old        *airgap.Bundle
	next       *airgap.Bundle
	delta      format.Delta
}

// Compare returns the difference between two full bundles. Its unnamed temporary
// files are in the folder dir.
func Compare(ctx context.Context, old, next *airgap.Bundle, dir string) (*Diff, error) {
	d := &Diff{Archive: build.FullArchive(next), temp: tempDir(dir), work: newBudget(old.Size()), patchFiles: map[digest.Digest]tempFile{}, old: old, next: next,
		delta: format.Delta{Base: old.Digest()}}
	from := pairLayers(old, next)
	small := map[digest.Digest]bool{} // the content of a thin bundle: always stored, so that a delta can be inspected
	for _, desc := range build.ThinArchive(next).Blobs {
		small[desc.Digest] = true
	}
	var kept []ocispec.Descriptor
	for _, desc := range d.Blobs {
		if _, err := old.Section(desc); err == nil && !small[desc.Digest] {
			continue
		}
		part := desc
		if l, ok := from[desc.Digest]; ok && !small[desc.Digest] {
			var err error
			if part, err = d.patchBlob(ctx, l, desc); err != nil {
				return nil, errors.Join(fmt.Errorf("blob %s: %w", desc.Digest, err), d.Close())
			}
		}
		kept = append(kept, part)
	}
	var err error
	d.Blobs, d.Source = kept, d
	d.Delta, err = d.delta.JSON()
	return d, err
}

// PatchCount returns the number of blobs that are stored as patches.
func (d *Diff) PatchCount() int { return len(d.delta.Patches) }

// pairLayers returns, for each layer of next, the layer of the same item in old.
// Layers of items that old does not have are left out.
func pairLayers(old, next *airgap.Bundle) map[digest.Digest]format.Layer {
	layers := map[string][]format.Layer{}
	for _, it := range old.Items() {
		layers[unversionedName(it)] = it.Layers
	}
	pairs := map[digest.Digest]format.Layer{}
	for _, it := range next.Items() {
		from := layers[unversionedName(it)]
		for i, l := range it.Layers {
			if len(from) > 0 {
				pairs[l.Digest] = from[min(i, len(from)-1)]
			}
		}
	}
	return pairs
}

// unversionedName returns an item's kind and name without the version.
func unversionedName(it format.Item) string {
	name := it.Name
	if i := strings.LastIndexAny(name, ":@"); it.Kind == format.KindImage && i > strings.LastIndex(name, "/") {
		name = name[:i]
	}
	return string(it.Kind) + " " + name
}

// patchBlob returns the descriptor to store for a blob: that of a patch from the
// layer from, or desc itself where no patch is possible or none is smaller.
func (d *Diff) patchBlob(ctx context.Context, from format.Layer, desc ocispec.Descriptor) (ocispec.Descriptor, error) {
	l, _ := d.next.FindLayer(desc.Digest)
	if desc.Size < minPatchedSize || blob.Compression(from.MediaType) != "zstd" || blob.Compression(desc.MediaType) != "zstd" || !isInProportion(from, l) || !takeWork(&d.work, from, l) {
		return desc, nil
	}
	before, err := d.temp.unpackLayer(ctx, d.old, from)
	if err != nil {
		return desc, err
	}
	defer before.close()
	after, err := d.temp.unpackLayer(ctx, d.next, l)
	if err != nil {
		return desc, err
	}
	defer after.close()
	same := digest.SHA256.Digester()
	if err := compressLayer(same.Hash(), after.newReader()); err != nil || same.Digest() != desc.Digest {
		return desc, err // compressed by another tool: it cannot be reproduced
	}
	sum := digest.SHA256.Digester()
	made, err := d.temp.createFile(func(w io.Writer) error {
		return encodePatch(ctx, io.MultiWriter(w, sum.Hash()), before.newSection(), after.newSection())
	})
	if err != nil || made.size >= desc.Size {
		made.close()
		return desc, err
	}
	patch := ocispec.Descriptor{MediaType: format.TypePatch, Digest: sum.Digest(), Size: made.size}
	d.patchFiles[patch.Digest] = made
	d.delta.Patches = append(d.delta.Patches, format.Patch{Blob: desc.Digest, From: bareDescriptor(from.Descriptor), Patch: patch, Packed: format.PackedBetter})
	return patch, nil
}

// isInProportion reports whether layer from is small enough, once unpacked, to be
// the base of a patch to layer to.
func isInProportion(from, to format.Layer) bool {
	return from.Unpacked >= 0 && to.Unpacked >= 0 && from.Unpacked <= maxSizeFactor*to.Unpacked+maxSizeMargin
}

// newBudget returns how many bytes a delta may unpack and rebuild in total; size
// is that of the older bundle's file. The limit holds whatever the two indices
// declare, because a delta and the index of an unsigned bundle can declare anything.
func newBudget(size int64) limit.Budget {
	return limit.Budget(limit.DeltaFactor*min(size, limit.Blob) + limit.DeltaMargin)
}

// takeWork takes a patch from layer from to layer to from the budget work, and
// reports whether enough was left.
func takeWork(work *limit.Budget, from, to format.Layer) bool {
	return work.Take(from.Unpacked) && work.Take(to.Unpacked)
}

// bareDescriptor returns a descriptor without annotations.
func bareDescriptor(desc ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
}

// Open returns the content of a patch or of a blob of the newer bundle.
func (d *Diff) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if s, ok := d.patchFiles[desc.Digest]; ok {
		return blob.NewReader(ctx, io.NopCloser(s.newReader()), desc, "the patch"), nil
	}
	return d.next.Open(ctx, desc)
}

// Close removes the temporary files.
func (d *Diff) Close() error {
	for _, f := range d.patchFiles {
		f.close()
	}
	return nil
}
