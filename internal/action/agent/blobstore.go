package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/k0s"
)

// blobStore serves the parts of the bundle that this node has, and this program.
type blobStore struct {
	*action.Env
	selfDigest func() digest.Digest // digest of the installed program
}

func newBlobStore(env *action.Env) blobStore {
	return blobStore{env, sync.OnceValue(func() digest.Digest {
		self, err := env.AgentArtifact()
		if err != nil {
			return "" // matches no request
		}
		return self.Digest
	})}
}

// Open opens a blob of the bundle, or of one that an upgrade has fetched, or this program. It returns fs.ErrNotExist
// for all other blobs, even if they are on the disk.
func (s blobStore) Open(ctx context.Context, d digest.Digest) (agent.BlobContent, error) {
	b, err := desired.OpenInstalledBundle(ctx, s.Host, s.DataDir)
	if err != nil {
		return nil, err
	}
	if d == s.selfDigest() {
		return openContent("/proc/self/exe")
	}
	content, err := openBundleContent(b, d, desired.BundleCacheDir(s.DataDir), func(f airgap.HostFile) string { return desired.HostFilePaths()[f.Name] })
	if !errors.Is(err, fs.ErrNotExist) {
		return content, err
	}
	staged, err := s.Host.ReadDir(desired.StagedBundlesDir)
	if err != nil { // no upgrade is under way
		return nil, fs.ErrNotExist
	}
	for _, e := range staged {
		bundle := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		b, err := desired.OpenStagedBundle(ctx, s.Host, bundle)
		if err != nil { // it is being fetched
			continue
		}
		if slices.ContainsFunc(b.Programs(), func(p format.Program) bool { return p.Digest == d }) {
			return openContent(desired.StagedProgram(bundle, d))
		}
		blobs := path.Join(desired.StagedBundleDir(bundle), "blobs", "sha256")
		content, err := openBundleContent(b, d, desired.StagedBundleDir(bundle), func(f airgap.HostFile) string { return path.Join(blobs, f.Digest.Encoded()) })
		if !errors.Is(err, fs.ErrNotExist) {
			return content, err
		}
	}
	return nil, fs.ErrNotExist
}

// openBundleContent opens a blob of the bundle b, whose documents are in dir and whose host files are at the paths that
// hostFile returns.
func openBundleContent(b *airgap.Bundle, d digest.Digest, dir string, hostFile func(airgap.HostFile) string) (agent.BlobContent, error) {
	if d == b.Digest() {
		return openContent(path.Join(dir, "index.json"))
	}
	for _, f := range b.HostFiles() {
		if f.Digest == d {
			return openContent(hostFile(f))
		}
	}
	if !isInBundle(b, d) {
		return nil, fs.ErrNotExist
	}
	for _, dir := range []string{path.Join(dir, "blobs", "sha256"), k0s.ContentDir} {
		if f, err := openContent(path.Join(dir, d.Encoded())); err == nil {
			return f, nil
		}
	}
	return nil, fs.ErrNotExist
}

// openContent opens a file as the content of a blob; with an error, it returns a nil interface.
func openContent(name string) (agent.BlobContent, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// isInBundle reports whether the blob d is part of the bundle.
func isInBundle(b *airgap.Bundle, d digest.Digest) bool {
	for _, it := range b.Items() {
		for _, have := range it.Blobs() {
			if have.Digest == d {
				return true
			}
		}
	}
	return false
}
