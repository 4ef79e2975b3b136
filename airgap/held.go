package airgap

import (
	"context"
	"errors"
	"path"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/problem"
)

// OpenHeld opens a bundle of which index is the index.json, and whose content
// others hold, such as the nodes of a cluster that was installed from it. Host
// files are asked of src unpacked, by the digest of the file itself: that is
// how a node has them. name stands for the bundle in errors.
func OpenHeld(ctx context.Context, index []byte, src blob.Source, name string) (*Bundle, error) {
	b := &Bundle{name: name, held: src}
	err := b.parseIndex(index)
	if err == nil {
		err = b.readItems(ctx)
	}
	var p *problem.Problem
	if err != nil && !errors.As(err, &p) && ctx.Err() == nil {
		err = problem.New(problem.ExitBundle, "open "+name, err, "bring the bundle to this host and name it with --bundle")
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Documents gives all that is small and in no image: the index, all manifests,
// the Installer, the Application and the charts, by their place in an OCI image
// layout. With a node's images and programs they are the whole bundle.
func (b *Bundle) Documents(ctx context.Context) (map[string][]byte, error) {
	docs := map[string][]byte{format.LayoutEntry: []byte(blob.LayoutFile), format.IndexEntry: b.raw}
	for _, it := range b.items {
		want := []ocispec.Descriptor{it.Manifest}
		if it.Kind != format.KindImage {
			want = append(want, it.Config)
		}
		if it.Kind != format.KindImage && it.Kind != format.KindHost {
			want = append(want, it.Layers[0].Descriptor)
		}
		for _, d := range want {
			data, err := blob.ReadAll(ctx, b, d, blob.MaxDocument)
			if err != nil {
				return nil, err
			}
			docs[path.Join("blobs", "sha256", d.Digest.Encoded())] = data
		}
	}
	return docs, nil
}
