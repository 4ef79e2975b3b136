package build

import (
	"context"
	"io"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
)

// Thin writes the thin form of a bundle to path: the same index with the same
// signature, without the content of images and host files.
func Thin(ctx context.Context, b *airgap.Bundle, path string) error {
	p := plan{index: b.RawIndex(), sig: b.Signature(), blobs: slender(b.Items()), src: b}
	return blob.WriteFile(path, func(w io.Writer) error { return p.write(ctx, w) })
}
