// Package builder builds one recipe: it fetches the sources, verifies their pinned
// digests, and runs the steps in a clean folder and environment.
package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/plinthdev/plinth/distro/cache"
	"github.com/plinthdev/plinth/distro/debian"
	"github.com/plinthdev/plinth/distro/recipe"
)

// Builder builds the recipes of one cache.
type Builder struct {
	Cache *cache.Cache
	Env   []string // added to every command's environment, NAME=value
}

// workspace is the folder and environment in which one recipe's steps run.
type workspace struct {
	recipe recipe.Recipe
	work   string // all temporary files of this recipe
	src    string // working directory of the steps
	out    string // the files that the steps write here are the recipe's output
	env    []string
	log    *os.File
	cpu    time.Duration // CPU time of the commands so far
}

// Build runs the recipe's steps and then moves the output to its place in the
// cache, atomically. All recipes that it needs must be built. It returns the CPU
// time that the steps took on all cores together.
func (w *Builder) Build(ctx context.Context, r recipe.Recipe) (time.Duration, error) {
	ws, err := w.openWorkspace(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = ws.log.Close() }()
	if err := w.fetchAll(ctx, ws); err != nil {
		return 0, err
	}
	if err := ws.runSteps(ctx); err != nil {
		return 0, err
	}
	if err := ws.moveOutput(w.Cache.PartDir(r.Name)); err != nil {
		return 0, err
	}
	return ws.cpu, RemoveAll(ws.work)
}

func (ws *workspace) runSteps(ctx context.Context) error {
	for i, st := range ws.recipe.Steps {
		var err error
		if st.Go != nil {
			err = ws.goBuild(ctx, *st.Go)
		} else {
			err = ws.runCommand(ctx, nil, "sh", "-euc", st.Run)
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

// openWorkspace creates an empty workspace with the environment of the steps.
func (w *Builder) openWorkspace(r recipe.Recipe) (*workspace, error) {
	work := filepath.Join(w.Cache.Dir, "work", r.Name)
	ws := &workspace{recipe: r, work: work, src: filepath.Join(work, "src"), out: filepath.Join(work, "out")}
	if err := RemoveAll(work); err != nil {
		return nil, err
	}
	logs := filepath.Join(w.Cache.Dir, "logs")
	for _, dir := range []string{ws.src, ws.out, filepath.Join(work, "tmp"), logs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	ws.env = append(ws.baseEnv(), w.Env...)
	for _, need := range r.Needs {
		ws.env = append(ws.env, "PART_"+shellName(need)+"="+w.Cache.PartDir(need))
	}
	var err error
	ws.log, err = os.Create(filepath.Join(logs, r.Name+".log"))
	return ws, err
}

// moveOutput moves the finished output to its place in the cache.
func (ws *workspace) moveOutput(to string) error {
	if entries, err := os.ReadDir(ws.out); err != nil || len(entries) == 0 {
		return fmt.Errorf("the steps wrote no files to the output folder (%v)", err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.Rename(ws.out, to)
}

func (w *Builder) fetchAll(ctx context.Context, ws *workspace) error {
	if ws.recipe.Module != "" {
		if err := ws.fetchModule(ctx); err != nil {
			return err
		}
	}
	for _, dir := range ws.recipe.Dirs {
		if err := copyTree(dir, ws.src); err != nil {
			return err
		}
	}
	if err := w.fetchDebs(ctx, ws); err != nil {
		return err
	}
	return ws.fetchNpm(ctx)
}

func (ws *workspace) fetchModule(ctx context.Context) error {
	dir, err := ModuleDir(ctx, ws.recipe)
	if err != nil {
		return err
	}
	ws.env = append(ws.env, "MODULE="+dir)
	if !ws.recipe.Copy {
		return nil
	}
	if err := copyTree(dir, ws.src); err != nil {
		return err
	}
	// A module's zip contains only vendor/modules.txt, which would turn vendoring on.
	return os.RemoveAll(filepath.Join(ws.src, "vendor"))
}

func (w *Builder) fetchDebs(ctx context.Context, ws *workspace) error {
	dir := filepath.Join(ws.work, "debs")
	ws.env = append(ws.env, "DEBS="+dir)
	for _, name := range ws.recipe.Debs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		entry, err := w.Cache.Lock.Get(name)
		if err != nil {
			return err
		}
		file, err := w.Cache.FetchDeb(ctx, name)
		if err != nil {
			return err
		}
		if err := debian.Unpack(ctx, entry, file, dir); err != nil {
			return err
		}
	}
	return nil
}

// shellName returns a recipe's name as part of a shell variable's name.
func shellName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// copyTree copies files and folders. The copies are writable even if the sources
// are not.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		dest := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(dest, 0o755)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", path)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(dest, b, info.Mode().Perm()|0o600)
	})
}

// RemoveAll removes a tree that may contain read-only folders, as a module cache does.
func RemoveAll(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o755)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}
