package desired

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/step"
)

// keyRotationFile is the file beside a staged index with the vendor's statement that a new key replaces the old one.
const keyRotationFile = "key-rotation.pem"

// StagedBundlesDir is the folder with the bundles that upgrades of this host have fetched, each in a folder by the
// digest of its index: its documents and the unpacked host files. Its images are in containerd. The end of an upgrade, of its
// rollback and its commit remove it, with the rest of action.FetchDir.
const StagedBundlesDir = action.FetchDir + "/upgrade"

// StagedBundleDir returns the folder of one staged bundle.
func StagedBundleDir(bundle digest.Digest) string {
	return path.Join(StagedBundlesDir, bundle.Encoded())
}

// DiscardFetched returns the step that removes dir: action.FetchDir, or StagedBundlesDir, to keep what else was fetched for the
// same command again.
func DiscardFetched(h host.Files, dir string) step.Step {
	return step.Step{ID: "discard-fetched", Title: "Remove what was fetched for the upgrade", Affects: []string{dir},
		Check: func(context.Context) (step.State, error) {
			_, err := h.Lstat(dir)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return step.Done(), nil
			case err != nil:
				return step.State{}, err
			}
			return step.Needed(dir + " exists"), nil
		},
		Apply: func(context.Context, step.Report) error {
			if err := h.RemoveAll(dir); err != nil {
				return err
			}
			if rest, err := h.ReadDir(action.FetchDir); err != nil || len(rest) > 0 {
				return ignoreMissing(err)
			}
			return h.RemoveAll(action.FetchDir)
		},
	}
}

// ignoreMissing returns err, or nil if it says that a file does not exist.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// StagedProgram returns the path of an executable of Plinth that a staged bundle names.
func StagedProgram(bundle, program digest.Digest) string {
	return path.Join(StagedBundleDir(bundle), "programs", program.Encoded())
}

// StageProgram returns an executable of Plinth that a bundle names, as a file beside that bundle. ok is false if the bundle
// does not name it.
func StageProgram(b *airgap.Bundle, program digest.Digest, open func(size int64) (io.ReadCloser, error)) (file node.Artifact, ok bool) {
	for _, p := range b.Programs() {
		if p.Digest == program {
			return node.Artifact{Path: StagedProgram(b.Digest(), program), Mode: 0o700, Size: p.Size, Digest: p.Digest,
				Open: func() (io.ReadCloser, error) {
					r, err := open(p.Size)
					if err != nil {
						return nil, err
					}
					return node.VerifyDigest(r, p.Digest), nil
				}}, true
		}
	}
	return node.Artifact{}, false
}

// BundleOrigin is what verifies the origin of a bundle, besides the key that a node knows.
type BundleOrigin struct {
	Signature   []byte // of the index, in DER; nil for an unsigned bundle
	KeyRotation []byte // statement that a new key replaces the old one; nil for none
}

// ReadStagedIndex returns the index of a staged bundle and its origin. Neither is verified. The error is fs.ErrNotExist
// if the bundle is not staged.
func ReadStagedIndex(h host.Files, bundle digest.Digest) (index []byte, origin BundleOrigin, err error) {
	dir := StagedBundleDir(bundle)
	if index, err = h.ReadFile(path.Join(dir, format.IndexEntry)); err != nil {
		return nil, origin, err
	}
	for name, into := range map[string]*[]byte{format.SignatureEntry: &origin.Signature, keyRotationFile: &origin.KeyRotation} {
		if *into, err = h.ReadFile(path.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, origin, err
		}
	}
	return index, origin, nil
}

// OpenStagedBundle opens a staged bundle. The blobs of its images are not there.
func OpenStagedBundle(ctx context.Context, h host.Files, bundle digest.Digest) (*airgap.Bundle, error) {
	index, _, err := ReadStagedIndex(h, bundle)
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(index) != bundle {
		return nil, errors.New("the index in " + StagedBundleDir(bundle) + " is another one")
	}
	src, err := blob.OpenFolder(StagedBundleDir(bundle))
	if err != nil {
		return nil, err
	}
	return airgap.OpenFromStore(ctx, index, src, "the bundle of the upgrade")
}

// StageBundle returns the step that stores the documents and the host files of b, for later phases of an upgrade and
// for other nodes. Every byte is verified while it is written.
func StageBundle(ctx context.Context, h host.Host, b *airgap.Bundle, origin BundleOrigin) (step.Step, error) {
	dir := StagedBundleDir(b.Digest())
	docs, err := b.Documents(ctx)
	if err != nil {
		return step.Step{}, err
	}
	docs[format.SignatureEntry], docs[keyRotationFile] = origin.Signature, origin.KeyRotation
	for name, data := range docs {
		if len(data) == 0 {
			docs[name] = nil // a file that must not exist
		}
	}
	var files []node.Artifact
	for _, f := range b.HostFiles() {
		files = append(files, node.Artifact{Path: path.Join(dir, "blobs", "sha256", f.Digest.Encoded()), Mode: 0o600, Size: f.Size, Digest: f.Digest,
			Open: func() (io.ReadCloser, error) {
				installed := node.Artifact{Path: HostFilePaths()[f.Name], Mode: f.Mode, Size: f.Size, Digest: f.Digest}
				if why, err := installed.Check(ctx, h); err == nil && why == "" { // a thin bundle does not have it then
					return h.OpenFile(installed.Path)
				}
				return b.OpenHostFile(ctx, f.Name)
			}})
	}
	return plan.StageBundle(h, dir, docs, files), nil
}
