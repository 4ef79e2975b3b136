package airgap

import (
	"context"
	"errors"
	"path"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
)

// OpenFromStore opens a bundle whose content is stored elsewhere, such as on the
// nodes of a cluster that was installed from it. index is the content of its
// index.json. Host files are read from src unpacked, by the digest of the
// unpacked file, because that is how a node stores them. name identifies the
// bundle in errors.
func OpenFromStore(ctx context.Context, index []byte, src blob.Source, name string) (*Bundle, error) {
	b := &Bundle{name: name, contentStore: src}
	err := b.parseIndex(index)
	if err == nil {
		err = b.readItems(ctx)
	}
	var p *problem.Problem
	if err != nil && !errors.As(err, &p) && ctx.Err() == nil {
		err = problem.New(problem.ExitBundle, "open "+name, err, "copy the bundle to this host and name it with --bundle")
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Documents returns all small content that is not part of an image: the index,
// all manifests, the Installer, the Application and the charts. The keys are
// paths in an OCI image layout. Together with a node's images and host files
// they make up the whole bundle.
func (b *Bundle) Documents(ctx context.Context) (map[string][]byte, error) {
	docs := map[string][]byte{format.LayoutEntry: []byte(blob.LayoutFile), format.IndexEntry: b.rawIndex}
	for _, it := range b.items {
		want := []ocispec.Descriptor{it.Manifest}
		if it.Kind != format.KindImage {
			want = append(want, it.Config)
		}
		if it.Kind != format.KindImage && it.Kind != format.KindHost {
			want = append(want, it.Layers[0].Descriptor)
		}
		for _, d := range want {
			data, err := blob.ReadAll(ctx, b, d, limit.Document)
			if err != nil {
				return nil, err
			}
			docs[path.Join("blobs", "sha256", d.Digest.Encoded())] = data
		}
	}
	return docs, nil
}
