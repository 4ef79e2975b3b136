package build

import (
	"cmp"
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

// Select returns the host files and images that a request names, in its order and without
// repetitions, as they are in its layout. It reads their manifests and verifies nothing else. If the
// layout lacks one or is not a layout, the error is a Problem with the exit code for a bad bundle that
// names all of them.
func Select(ctx context.Context, req Request) ([]format.Item, error) {
	folder, wanted, err := openLayout(ctx, req)
	if err != nil {
		return nil, sourceError(ctx, req, err)
	}
	items, err := readItems(ctx, overlaySource{folder: folder, blobs: map[digest.Digest][]byte{}}, wanted)
	return items, sourceError(ctx, req, err)
}

// ExtractHostFile writes a host file of a layout to path, executable, and verifies it. The error is
// like that of Select.
func ExtractHostFile(ctx context.Context, layout, platform string, file HostFile, path string) error {
	req := Request{Name: file.Name, Layout: layout, Platform: platform, HostFiles: []HostFile{file}}
	items, err := Select(ctx, req)
	if err != nil {
		return err
	}
	return sourceError(ctx, req, extractFile(ctx, layout, items[0], path))
}

// extractFile writes the only file of a host item to path.
func extractFile(ctx context.Context, layout string, item format.Item, path string) error {
	file, err := item.HostFile()
	if err != nil {
		return err
	}
	folder, err := blob.OpenFolder(layout)
	if err != nil {
		return err
	}
	packed, err := folder.Open(ctx, file.Packed)
	if err != nil {
		return err
	}
	defer func() { _ = packed.Close() }()
	plain, err := blob.Unpack(packed, file.Packed.MediaType)
	if err != nil {
		return err
	}
	verified := blob.NewReader(ctx, plain, ocispec.Descriptor{Digest: file.Digest, Size: file.Size}, file.Name+" in "+layout)
	defer func() { _ = verified.Close() }()
	return blob.WriteExecutable(path, func(w io.Writer) error {
		_, err := io.Copy(w, verified)
		return err
	})
}

// openLayout returns the layout of a request and the descriptors of what the request names in it.
func openLayout(ctx context.Context, req Request) (blob.Folder, []ocispec.Descriptor, error) {
	folder, err := blob.OpenFolder(req.Layout)
	if err != nil {
		return folder, nil, fmt.Errorf("the source is not a folder in OCI image layout: %w", err)
	}
	index, err := folder.Index()
	if err != nil {
		return folder, nil, err
	}
	platform := cmp.Or(req.Platform, DefaultPlatform)
	have, err := expandIndexes(ctx, folder, index.Manifests, platform)
	if err != nil {
		return folder, nil, err
	}
	wanted, err := selectManifests(have, req, platform)
	return folder, wanted, err
}

// sourceError returns err as a Problem with the exit code for a bad bundle, unless it is nil or the
// command was interrupted.
func sourceError(ctx context.Context, req Request, err error) error {
	if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	return problem.New(problem.ExitBundle, "build bundle "+req.Name, err,
		"the source "+req.Layout+" must contain everything that the Installer requests, undamaged; `plinth bundle mirror` fills such a folder")
}
