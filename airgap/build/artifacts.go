package build

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
)

// overlaySource is a blob.Source of a folder and the small blobs that are created
// during a build.
type overlaySource struct {
	folder blob.Folder
	blobs  map[digest.Digest][]byte
}

// Open returns the content of a blob; created blobs take precedence over the
// folder.
func (m overlaySource) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if data, ok := m.blobs[desc.Digest]; ok {
		return blob.NewReader(ctx, io.NopCloser(bytes.NewReader(data)), desc, "memory"), nil
	}
	return m.folder.Open(ctx, desc)
}

// addBlob adds a blob with this content and returns its descriptor.
func (m overlaySource) addBlob(mediaType string, data []byte) ocispec.Descriptor {
	d := digest.FromBytes(data)
	m.blobs[d] = data
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

// addDocuments adds the artifacts of the documents in the request (Installer,
// Application, charts) and returns their descriptors.
func (m overlaySource) addDocuments(req Request) ([]ocispec.Descriptor, error) {
	parts := []document{{format.KindInstaller, "installer.yaml", "", format.TypeInstaller, req.Installer}}
	if req.Application != nil {
		parts = append(parts, document{format.KindApplication, "application.yaml", "", format.TypeApplication, req.Application})
	}
	for _, c := range req.Charts {
		parts = append(parts, document{format.KindChart, c.Name, c.Version, format.TypeChart, c.Archive})
	}
	var descs []ocispec.Descriptor
	for _, p := range parts {
		desc, err := m.addArtifact(p)
		if err != nil {
			return nil, err
		}
		descs = append(descs, desc)
	}
	return descs, nil
}

// document is a small file that is stored as an artifact of its own.
type document struct {
	kind                     format.Kind
	name, version, mediaType string
	data                     []byte
}

// addArtifact adds a document and its manifest, in the same format as `oras push`
// or, for a chart, `helm push`, and returns the manifest's descriptor.
func (m overlaySource) addArtifact(p document) (ocispec.Descriptor, error) {
	if len(p.data) > maxDocumentSize {
		return ocispec.Descriptor{}, fmt.Errorf("%s %s has %d bytes, the limit is %d", p.kind, p.name, len(p.data), maxDocumentSize)
	}
	layer := m.addBlob(p.mediaType, p.data)
	layer.Annotations = map[string]string{ocispec.AnnotationTitle: p.name}
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: p.mediaType,
		Config: m.addBlob(ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ocispec.Descriptor{layer}}
	manifest.SchemaVersion = 2
	if p.kind == format.KindChart {
		config, err := json.Marshal(map[string]string{"apiVersion": "v2", "name": p.name, "version": p.version})
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		manifest.ArtifactType, manifest.Config = "", m.addBlob(format.TypeChartConfig, config)
		manifest.Layers[0].Annotations[ocispec.AnnotationTitle] = fmt.Sprintf("%s-%s.tgz", p.name, p.version)
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := m.addBlob(ocispec.MediaTypeImageManifest, raw)
	desc.ArtifactType = manifest.ArtifactType
	desc.Annotations = map[string]string{format.AnnotationKind: string(p.kind), ocispec.AnnotationRefName: p.name}
	if p.kind == format.KindChart {
		desc.Annotations[ocispec.AnnotationRefName] = "chart/" + p.name
	}
	if p.version != "" {
		desc.Annotations[ocispec.AnnotationVersion] = p.version
	}
	return desc, nil
}
