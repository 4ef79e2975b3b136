package build

import (
	"bytes"
	"context"
	"encoding/json"
	"runtime"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/airgap/sbom"
)

// originBuilder creates the SBOM and the provenance of a bundle.
type originBuilder struct {
	req     Request
	overlay overlaySource
	src     blob.Source
}

// addOriginItems returns the items with the SBOM and the provenance of the images
// and host files.
func (o originBuilder) addOriginItems(ctx context.Context, all []format.Item) ([]format.Item, error) {
	parts, err := o.findComponents(ctx, all)
	if err != nil {
		return nil, err
	}
	created, err := o.newestImageTime(ctx, all)
	if err != nil {
		return nil, err
	}
	doc, err := sbom.NewDocument(o.req.Name, parts, created)
	if err != nil {
		return nil, err
	}
	packed, err := sbom.Encode(doc)
	if err != nil {
		return nil, err
	}
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for _, p := range parts {
		if err := enc.Encode(sbom.NewStatement(p)); err != nil {
			return nil, err
		}
	}
	var descs []ocispec.Descriptor
	for _, p := range []document{{format.KindSBOM, "sbom.spdx.json.zst", "", format.TypeSBOM, packed},
		{format.KindProvenance, "provenance.intoto.jsonl", "", format.TypeProvenance, lines.Bytes()}} {
		desc, err := o.overlay.addArtifact(p)
		if err != nil {
			return nil, err
		}
		descs = append(descs, desc)
	}
	return readItems(ctx, o.overlay, descs)
}

// findComponents returns the components of the images and host files. It scans
// their layers for programs on up to 4 CPUs. A layer that several images share is
// scanned for each of them, because it is a part of each.
func (o originBuilder) findComponents(ctx context.Context, all []format.Item) ([]sbom.Component, error) {
	found := make([][]sbom.Executable, len(all))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(min(runtime.GOMAXPROCS(0), 4))
	for i, it := range all {
		if it.Kind != format.KindHost && it.Kind != format.KindImage {
			continue
		}
		group.Go(func() error {
			for _, l := range it.Layers {
				programs, err := sbom.FindExecutables(groupCtx, o.src, it, l, o.req.WorkDir)
				if err != nil {
					return err
				}
				found[i] = append(found[i], programs...)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var parts []sbom.Component
	for i, it := range all {
		if it.Kind != format.KindHost && it.Kind != format.KindImage {
			continue
		}
		p, err := sbom.NewComponent(it, found[i])
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// newestImageTime returns the latest creation time in the images' configs. Unlike
// the current time it is the same for the same content.
func (o originBuilder) newestImageTime(ctx context.Context, all []format.Item) (newest time.Time, err error) {
	newest = time.Unix(0, 0)
	for _, it := range all {
		if it.Kind != format.KindImage {
			continue
		}
		raw, err := blob.ReadAll(ctx, o.overlay, it.Config, limit.Document)
		if err != nil {
			return newest, err
		}
		var config ocispec.Image
		if json.Unmarshal(raw, &config) == nil && config.Created != nil && config.Created.After(newest) {
			newest = *config.Created
		}
	}
	return newest, nil
}
