package plan

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/step"
)

// BundleCache is the documents of the bundle that a node keeps, in addition to the images and programs that it uses.
type BundleCache struct {
	Dir   string
	Files map[string][]byte // by path in Dir; a file with nil content must not exist
}

// storeStep returns the step that stores the bundle's documents. Together with the images and programs that
// the node has anyway, they are everything that another host needs to join.
func (k BundleCache) storeStep(h host.Host) step.Step {
	return step.Step{ID: "keep-bundle", Title: "Keep the bundle's index", Affects: []string{k.Dir},
		Check: func(context.Context) (step.State, error) {
			if why, err := k.changedFile(h); err != nil || why != "" {
				return stepState(why, err)
			}
			old, err := k.otherFiles(h)
			if err != nil || len(old) == 0 {
				return step.Done(), err
			}
			return step.Needed(old[0] + " belongs to another bundle"), nil
		},
		Apply: func(context.Context, step.Report) error {
			if err := k.storeFiles(h); err != nil {
				return err
			}
			old, err := k.otherFiles(h)
			for _, p := range old {
				if err == nil {
					err = h.RemoveAll(p)
				}
			}
			return err
		},
	}
}

// changedFile returns what is wrong with the first of Files, by path, that differs from what is stored; "" if none does.
func (k BundleCache) changedFile(h host.Host) (string, error) {
	for _, p := range slices.Sorted(maps.Keys(k.Files)) {
		have, err := h.ReadFile(path.Join(k.Dir, p))
		missing := errors.Is(err, fs.ErrNotExist)
		switch {
		case err != nil && !missing:
			return "", err
		case k.Files[p] == nil && !missing:
			return path.Join(k.Dir, p) + " belongs to another bundle", nil
		case k.Files[p] != nil && (missing || !bytes.Equal(have, k.Files[p])):
			return path.Join(k.Dir, p) + " is missing or differs", nil
		}
	}
	return "", nil
}

// storeFiles writes Files, sorted by path: the index after the blobs.
func (k BundleCache) storeFiles(h host.Host) error {
	for _, p := range slices.Sorted(maps.Keys(k.Files)) {
		if err := k.storeFile(h, p); err != nil {
			return err
		}
	}
	return nil
}

// storeFile writes the file at the path p in Dir, or removes it if it must not exist.
func (k BundleCache) storeFile(h host.Host, p string) error {
	if k.Files[p] == nil {
		return h.RemoveAll(path.Join(k.Dir, p))
	}
	return h.Write(path.Join(k.Dir, p), bytes.NewReader(k.Files[p]), 0o600)
}

// otherFiles returns the files in Dir that are not among Files, sorted: those of an earlier bundle.
func (k BundleCache) otherFiles(h host.Files) ([]string, error) {
	if k.Dir == "" { // the node keeps none
		return nil, nil
	}
	have, err := node.ListFiles(h, k.Dir)
	return slices.DeleteFunc(have, func(p string) bool {
		_, ours := k.Files[strings.TrimPrefix(p, k.Dir+"/")]
		return ours
	}), err
}

// StageProgram returns the step that stores the plinth executable that upgrades a node. It is put in its place by the upgrade.
func StageProgram(h host.Host, f node.Artifact) step.Step {
	return fileStep(h, "stage-program", "Fetch the plinth executable of the new bundle", f)
}

// StageBundle returns the step that stores the documents of a bundle, by their paths in dir, and programs of it. A
// document with nil content must not exist. The documents come last, so that a folder with an index is complete.
func StageBundle(h host.Host, dir string, docs map[string][]byte, programs []node.Artifact) step.Step {
	cache := BundleCache{Dir: dir, Files: docs}
	return step.Step{ID: "stage-bundle", Title: "Fetch the programs of the new bundle", Affects: []string{dir},
		Check: func(ctx context.Context) (step.State, error) {
			for _, f := range programs {
				if why, err := f.Check(ctx, h); err != nil || why != "" {
					return stepState(why, err)
				}
			}
			return stepState(cache.changedFile(h))
		},
		Apply: func(ctx context.Context, report step.Report) error {
			if err := h.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			for _, f := range programs {
				why, err := f.Check(ctx, h)
				if err == nil && why != "" {
					err = withProgress(f, report).Apply(h)
				}
				if err != nil {
					return err
				}
			}
			return cache.storeFiles(h)
		},
	}
}
