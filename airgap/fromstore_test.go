package airgap_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/limit"
)

// node is a blob source with the parts of a bundle that a node stores: documents,
// blobs of images, and unpacked host files.
type node struct {
	docs  blob.Source
	whole *airgap.Bundle
	files map[digest.Digest]string
}

func (n node) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if content, ok := n.files[d.Digest]; ok {
		return blob.NewReader(ctx, io.NopCloser(strings.NewReader(content)), d, "node"), nil
	}
	if r, err := n.docs.Open(ctx, d); err == nil {
		return r, nil
	}
	for _, img := range n.whole.Images() {
		for _, b := range append(img.Layers, img.Config) {
			if b.Digest == d.Digest {
				return n.whole.Open(ctx, d)
			}
		}
	}
	return nil, os.ErrNotExist
}

func TestOpenFromStore_ReturnsSameBundle(t *testing.T) {
	whole, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	if err != nil {
		t.Fatal(err)
	}
	docs, err := whole.Documents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for at, content := range docs {
		at = filepath.Join(dir, at)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	folder, err := blob.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[digest.Digest]string{}
	for _, f := range airgaptest.HostFiles() {
		files[digest.FromString(f.Content)] = f.Content
	}
	held, err := airgap.OpenFromStore(t.Context(), docs["index.json"], node{folder, whole, files}, "the cluster's bundle")
	if err != nil {
		t.Fatal(err)
	}
	if held.Digest() != whole.Digest() || !reflect.DeepEqual(held.Images(), whole.Images()) || held.ContentSize() != whole.ContentSize() || held.Platform() != whole.Platform() {
		t.Errorf("%+v", held.Images())
	}
	in, err := held.Installer(t.Context())
	if err != nil || string(in) != airgaptest.Installer {
		t.Errorf("%s %v", in, err)
	}
	r, err := held.OpenHostFile(t.Context(), "k0s")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != airgaptest.HostFiles()[0].Content {
		t.Errorf("%s %v", got, err)
	}
	for _, img := range held.Images() {
		for _, d := range append(img.Layers, img.Config, img.Manifest) {
			if _, err := blob.ReadAll(t.Context(), held, d, limit.Document); err != nil {
				t.Errorf("%s: %v", img.Ref, err)
			}
		}
	}
}

func TestOpenFromStore_RefusesMissingContent(t *testing.T) {
	whole, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	if err != nil {
		t.Fatal(err)
	}
	docs, err := whole.Documents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	empty, err := blob.CreateFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, index := range map[string][]byte{"no blobs": docs["index.json"], "no index": []byte("{}"), "no JSON": []byte("x")} {
		t.Run(name, func(t *testing.T) {
			if _, err := airgap.OpenFromStore(t.Context(), index, empty, "the cluster's bundle"); err == nil || !strings.Contains(err.Error(), "the cluster's bundle") {
				t.Errorf("%v", err)
			}
		})
	}
}
