package desired

import (
	"context"
	"path/filepath"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/spec"
)

// OpenInstalledBundle opens the bundle that the host h was installed from. Only its documents are
// in the data folder; blobs of images are in containerd.
func OpenInstalledBundle(ctx context.Context, h host.Files, dataDir string) (*airgap.Bundle, error) {
	dir := BundleCacheDir(dataDir)
	index, err := h.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, err
	}
	docs, err := blob.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	return airgap.OpenFromStore(ctx, index, docs, "the bundle of this cluster")
}

// ReadInstalledInstaller returns the Installer that the host h was installed from; nil if it cannot
// be read.
func ReadInstalledInstaller(ctx context.Context, h host.Files, dataDir string) *spec.Installer {
	b, err := OpenInstalledBundle(ctx, h, dataDir)
	if err != nil {
		return nil
	}
	defer func() { _ = b.Close() }()
	raw, err := b.Installer(ctx)
	if err != nil {
		return nil
	}
	in, _ := spec.ParseInstaller("installer.yaml", raw) // nil with findings that are errors
	return in
}
