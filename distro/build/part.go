package build

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/plinthdev/plinth/distro/debian"
	"github.com/plinthdev/plinth/distro/recipe"
	"github.com/plinthdev/plinth/internal/problem"
)

// partDir is where a part's output stands once it is built.
func (e *Engine) partDir(name string) string {
	return filepath.Join(e.Cache, "parts", name, e.keys[name])
}

func (e *Engine) built(name string) bool {
	_, err := os.Stat(e.partDir(name))
	return err == nil
}

// buildPart builds one recipe unless its output is there, and then refreshes
// the layout with what became possible.
func (e *Engine) buildPart(ctx context.Context, r recipe.Recipe, label string) error {
	if e.built(r.Name) {
		return nil
	}
	if err := e.checkDisk(r.Name, minFree); err != nil {
		return err
	}
	start := time.Now()
	e.say("%s %s: building", label, r.Version)
	stop := e.heartbeat(label, start)
	err := e.runSteps(ctx, r)
	stop()
	if err != nil {
		return problem.New(problem.ExitStep, "build "+r.Name+" "+r.Version, err, "run it again: it goes on where it stopped")
	}
	e.say("%s %s: done in %s, %s", label, r.Version, since(start), bytesText(folderSize(e.partDir(r.Name))))
	return e.assemble(ctx)
}

// heartbeat says twice a minute that a part is still being built.
func (e *Engine) heartbeat(label string, start time.Time) (stop func()) {
	quit := make(chan struct{})
	go func() {
		tick := time.NewTicker(30 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				e.say("%s: still building, %s", label, since(start))
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit) }
}

// workspace is where one part's steps run.
type workspace struct {
	r    recipe.Recipe
	work string // everything temporary of this part
	src  string // the steps' folder
	out  string // what the steps put here is the part's output
	env  []string
	log  *os.File
}

func (e *Engine) runSteps(ctx context.Context, r recipe.Recipe) error {
	ws, err := e.prepare(ctx, r)
	if err != nil {
		return err
	}
	defer ws.log.Close()
	for i, st := range r.Steps {
		var err error
		if st.Go != nil {
			err = ws.goBuild(ctx, *st.Go)
		} else {
			err = ws.run(ctx, nil, "sh", "-euc", st.Run)
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	if err := e.keepOutput(ws); err != nil {
		return err
	}
	return removeAll(ws.work)
}

// keepOutput moves a finished output to its name in the cache, at once.
func (e *Engine) keepOutput(ws *workspace) error {
	if entries, err := os.ReadDir(ws.out); err != nil || len(entries) == 0 {
		return fmt.Errorf("the steps left nothing in the output folder (%v)", err)
	}
	to := e.partDir(ws.r.Name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.Rename(ws.out, to)
}

// prepare makes a clean workspace: module, recipe's own files, Debian and npm
// packages, and the environment that the steps see.
func (e *Engine) prepare(ctx context.Context, r recipe.Recipe) (*workspace, error) {
	work := filepath.Join(e.Cache, "work", r.Name)
	ws := &workspace{r: r, work: work, src: filepath.Join(work, "src"), out: filepath.Join(work, "out")}
	if err := removeAll(work); err != nil {
		return nil, err
	}
	logs := filepath.Join(e.Cache, "logs")
	for _, dir := range []string{ws.src, ws.out, filepath.Join(work, "tmp"), logs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	if ws.log, err = os.Create(filepath.Join(logs, r.Name+".log")); err != nil {
		return nil, err
	}
	ws.env = append(baseEnv(r, ws), e.Env...)
	for _, need := range r.Needs {
		ws.env = append(ws.env, "PART_"+shellName(need)+"="+e.partDir(need))
	}
	if err := e.fetchAll(ctx, ws); err != nil {
		ws.log.Close()
		return nil, err
	}
	return ws, nil
}

func (e *Engine) fetchAll(ctx context.Context, ws *workspace) error {
	if ws.r.Module != "" {
		dir, err := ModuleDir(ctx, ws.r)
		if err != nil {
			return err
		}
		ws.env = append(ws.env, "MODULE="+dir)
		if ws.r.Copy {
			if err := copyTree(dir, ws.src); err != nil {
				return err
			}
			// A module's zip keeps only vendor/modules.txt, which would switch vendoring on.
			if err := os.RemoveAll(filepath.Join(ws.src, "vendor")); err != nil {
				return err
			}
		}
	}
	if err := copyTree(ws.r.Dir, ws.src); err != nil {
		return err
	}
	if err := e.fetchDebs(ctx, ws); err != nil {
		return err
	}
	return ws.fetchNpm(ctx)
}

func (e *Engine) fetchDebs(ctx context.Context, ws *workspace) error {
	if len(ws.r.Debs) == 0 {
		return nil
	}
	dir := filepath.Join(ws.work, "debs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	ws.env = append(ws.env, "DEBS="+dir)
	for _, name := range ws.r.Debs {
		entry, err := e.Lock.Get(name)
		if err != nil {
			return err
		}
		file, err := e.deb(ctx, name)
		if err != nil {
			return err
		}
		if err := debian.Unpack(ctx, entry, file, dir); err != nil {
			return err
		}
	}
	return nil
}

// shellName makes a recipe's name fit for a shell variable.
func shellName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// copyTree copies files and folders, writable whatever the source's modes are.
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
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is not a plain file", path)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(dest, b, info.Mode().Perm()|0o600)
	})
}

// removeAll removes a tree that may hold read-only folders.
func removeAll(dir string) error {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o755)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func folderSize(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
