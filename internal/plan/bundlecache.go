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
	paths := slices.Sorted(maps.Keys(k.Files))
	return step.Step{ID: "keep-bundle", Title: "Keep the bundle's index", Affects: []string{k.Dir},
		Check: func(context.Context) (step.State, error) {
			for _, p := range paths {
				have, err := h.ReadFile(path.Join(k.Dir, p))
				missing := errors.Is(err, fs.ErrNotExist)
				switch {
				case err != nil && !missing:
					return step.State{}, err
				case k.Files[p] == nil && !missing:
					return step.Needed(path.Join(k.Dir, p) + " belongs to another bundle"), nil
				case k.Files[p] != nil && (missing || !bytes.Equal(have, k.Files[p])):
					return step.Needed(path.Join(k.Dir, p) + " is missing or differs"), nil
				}
			}
			old, err := k.otherFiles(h)
			if err != nil || len(old) == 0 {
				return step.Done(), err
			}
			return step.Needed(old[0] + " belongs to another bundle"), nil
		},
		Apply: func(context.Context, step.Report) error {
			for _, p := range paths {
				if err := k.storeFile(h, p); err != nil {
					return err
				}
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
