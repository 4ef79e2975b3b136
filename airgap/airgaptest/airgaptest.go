// Package airgaptest creates small real layouts and bundles for tests.
//
// The images are built by go-containerregistry, not by the code under test.
package airgaptest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/format"
)

// Installer is the installer.yaml of NewRequest's bundle.
const Installer = "apiVersion: plinth.dev/v1beta1\nkind: Installer\nmetadata: {name: my-app}\n"

// Application is the Application manifest of NewRequest's bundle.
const Application = "apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: my-app}\n"

// Image describes an image that has one layer with one file per entry of Files.
type Image struct {
	Ref   string
	Files []string // content of the only file in each layer
	Gzip  bool     // gzip layers, as in upstream registries, instead of zstd
}

// HostFile describes a file for the host.
type HostFile struct{ Name, Version, Content string }

// Images returns the images of NewRequest; the first two share a layer.
func Images() []Image {
	return []Image{
		{Ref: "registry.k8s.io/pause:3.10", Files: []string{"base of all", "pause"}},
		{Ref: "quay.io/k0sproject/coredns:1.12.2", Files: []string{"base of all", "coredns"}},
		{Ref: "docker.io/kotsadm/kotsadm:v1.131.2", Files: []string{"kotsadm"}, Gzip: true},
	}
}

// HostFiles returns the host files of NewRequest.
func HostFiles() []HostFile {
	return []HostFile{{"k0s", "v1.33.8+k0s.1", "#!/bin/sh\necho k0s\n"}, {"kots", "1.131.2", "#!/bin/sh\necho kots\n"}}
}

// NewRequest returns the request for a small bundle with at least one item of every
// kind that is not generated. Its layout is in a temporary folder of the test.
func NewRequest(t testing.TB) build.Request {
	t.Helper()
	req := build.Request{Name: "my-app", Installer: []byte(Installer), Application: []byte(Application),
		Layout: WriteLayout(t, Images(), HostFiles()),
		Charts: []build.Chart{{Name: "local-path", Version: "0.0.30", Archive: []byte("\x1f\x8b a chart, more or less")}}}
	for _, img := range Images() {
		req.Images = append(req.Images, img.Ref)
	}
	for _, f := range HostFiles() {
		req.HostFiles = append(req.HostFiles, build.HostFile{Name: f.Name, Version: f.Version})
	}
	return req
}

// WriteBundle writes the bundle for req and returns its path.
func WriteBundle(t testing.TB, req build.Request) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "my-app.bundle")
	_, err := build.WriteFile(t.Context(), req, path)
	checkErr(t, err)
	return path
}

// WriteLayout writes an OCI image layout with the same annotations as the payload,
// and returns its folder.
func WriteLayout(t testing.TB, images []Image, files []HostFile) string {
	t.Helper()
	dir := t.TempDir()
	l, err := layout.Write(dir, empty.Index)
	checkErr(t, err)
	for _, img := range images {
		checkErr(t, l.AppendImage(BuildImage(t, img), layout.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}),
			layout.WithAnnotations(map[string]string{
				format.AnnotationKind: "image", format.AnnotationImageName: img.Ref, ocispec.AnnotationRefName: img.Ref,
				ocispec.AnnotationLicenses: "Apache-2.0", format.AnnotationModule: "example.com/" + filepath.Base(img.Ref),
			})))
	}
	for _, f := range files {
		addHostFile(t, l, f)
	}
	return dir
}

// BuildImage returns an image for linux/amd64.
func BuildImage(t testing.TB, img Image) v1.Image {
	t.Helper()
	out := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for i, content := range img.Files {
		plain := Tar(t, fmt.Sprintf("file-%d", i), content)
		layer, err := partial.CompressedToLayer(compressedLayer(compressLayer(t, plain)))
		if img.Gzip {
			layer, err = tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(plain)), nil }, tarball.WithMediaType(types.OCILayer))
		}
		checkErr(t, err)
		out, err = mutate.AppendLayers(out, layer)
		checkErr(t, err)
	}
	config, err := out.ConfigFile()
	checkErr(t, err)
	config.OS, config.Architecture = "linux", "amd64"
	out, err = mutate.ConfigFile(out, config)
	checkErr(t, err)
	return out
}

// compressedLayer is a zstd layer like those in the payload.
type compressedLayer []byte

func (p compressedLayer) Digest() (v1.Hash, error) {
	return v1.Hash{Algorithm: "sha256", Hex: digest.FromBytes(p).Encoded()}, nil
}
func (p compressedLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(p)), nil
}
func (p compressedLayer) Size() (int64, error)                { return int64(len(p)), nil }
func (p compressedLayer) MediaType() (types.MediaType, error) { return types.OCILayerZStd, nil }

// compressLayer compresses a layer with the settings of the payload.
func compressLayer(t testing.TB, plain []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	checkErr(t, err)
	_, err = w.Write(plain)
	checkErr(t, err)
	checkErr(t, w.Close())
	return buf.Bytes()
}

// Tar returns a tar archive with one file.
func Tar(t testing.TB, name, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	checkErr(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
	_, err := w.Write([]byte(content))
	checkErr(t, err)
	checkErr(t, w.Close())
	return buf.Bytes()
}

// CompressZstd returns data compressed as one zstd frame with a known content size.
func CompressZstd(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	checkErr(t, err)
	return w.EncodeAll(data, nil)
}

// addHostFile adds f and its manifest to the layout l.
func addHostFile(t testing.TB, l layout.Path, f HostFile) {
	t.Helper()
	add := func(mediaType string, data []byte) ocispec.Descriptor {
		d := digest.FromBytes(data)
		checkErr(t, l.WriteBlob(v1.Hash{Algorithm: "sha256", Hex: d.Encoded()}, io.NopCloser(bytes.NewReader(data))))
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	packed := add(format.TypeFile, CompressZstd(t, []byte(f.Content)))
	packed.Annotations = map[string]string{
		ocispec.AnnotationTitle: f.Name, format.AnnotationMode: "0755",
		format.AnnotationDigest: digest.FromString(f.Content).String(), format.AnnotationSize: fmt.Sprint(len(f.Content)),
	}
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: format.TypeHost,
		Config: add(ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ocispec.Descriptor{packed}}
	manifest.SchemaVersion = 2
	raw, err := json.Marshal(manifest)
	checkErr(t, err)
	desc := add(ocispec.MediaTypeImageManifest, raw)
	checkErr(t, l.AppendDescriptor(v1.Descriptor{MediaType: types.OCIManifestSchema1, ArtifactType: format.TypeHost,
		Size: desc.Size, Digest: v1.Hash{Algorithm: "sha256", Hex: desc.Digest.Encoded()},
		Platform: &v1.Platform{OS: "linux", Architecture: "amd64"},
		Annotations: map[string]string{
			format.AnnotationKind: "host", ocispec.AnnotationTitle: f.Name, ocispec.AnnotationVersion: f.Version,
			ocispec.AnnotationLicenses: "Apache-2.0",
		}}))
}

func checkErr(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
