// Package build turns recipes into the payload: it fetches pinned sources,
// runs each recipe's steps, assembles layers and writes the OCI layout. What
// is built is kept by the hash of all that decided it, so a second run does
// nothing and a killed one goes on. It refuses sources whose digest is not the
// pinned one.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/plinthdev/plinth/distro/debian"
	"github.com/plinthdev/plinth/distro/oci"
	"github.com/plinthdev/plinth/distro/recipe"
	"github.com/plinthdev/plinth/internal/problem"
)

// minFree is the disk space, in bytes, below which no part is started.
const minFree = 5 << 30

// Engine builds one distro folder into one cache folder.
type Engine struct {
	Cache      string // parts, blobs, downloads and layouts live below it
	Set        *recipe.Set
	Lock       *debian.Lock
	Jobs       int            // parts built at the same time
	Out        io.Writer      // progress, a line each
	Env        []string       // added to every command's environment
	mirror     *debian.Mirror // nil until something from Debian is needed
	finding    sync.Mutex     // guards mirror
	store      oci.Store
	keys       map[string]string // recipe name → hash of all that decides its output
	host       string            // versions of the tools that are always used
	log        sync.Mutex        // guards Out
	assembling sync.Mutex        // one writer of the layout at a time
}

// New reads the recipes and the lock in dir and computes every part's key.
func New(ctx context.Context, dir, cache string) (*Engine, error) {
	set, err := recipe.Load(dir)
	if err != nil {
		return nil, err
	}
	lock, err := debian.Load(filepath.Join(dir, debian.LockFile))
	if err != nil {
		return nil, err
	}
	e := &Engine{Cache: cache, Set: set, Lock: lock, Jobs: 2, Out: io.Discard, store: oci.Store{Dir: filepath.Join(cache, "blobs")}}
	return e, e.computeKeys(ctx)
}

// Layout is the folder of the layout that these recipes make.
func (e *Engine) Layout() string { return filepath.Join(e.Cache, "payload", e.layoutKey()) }

// Run builds all that is missing of the named parts and of all that they need
// (every part if none is named), refreshes the layout after each, and returns
// its folder.
func (e *Engine) Run(ctx context.Context, only []string) (string, error) {
	dir := e.Layout()
	if len(only) == 0 && e.complete() {
		return dir, nil
	}
	unlock, err := e.lockCache()
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := e.ensureTools(ctx); err != nil {
		return "", err
	}
	todo, err := e.closure(only)
	if err != nil {
		return "", err
	}
	start := time.Now()
	if err := e.buildAll(ctx, todo); err != nil {
		return "", err
	}
	if err := e.assemble(ctx); err != nil {
		return "", err
	}
	if len(only) == 0 {
		if err := oci.ReplaceFile(e.completeMark(), []byte("ok\n")); err != nil {
			return "", err
		}
	}
	e.say("payload ready in %s: %s", since(start), dir)
	return dir, nil
}

func (e *Engine) completeMark() string { return filepath.Join(e.Layout(), ".complete") }

func (e *Engine) complete() bool {
	_, err := os.Stat(e.completeMark())
	return err == nil
}

// closure is the named recipes and their needs, in build order.
func (e *Engine) closure(only []string) ([]string, error) {
	if len(only) == 0 {
		return e.Set.Order, nil
	}
	want := map[string]bool{}
	var add func(string) error
	add = func(name string) error {
		r, ok := e.Set.Recipes[name]
		if !ok {
			return problem.Newf(problem.ExitUsage, "build "+name, fmt.Sprintf("recipes are: %v", e.Set.Order), "there is no such recipe")
		}
		want[name] = true
		for _, n := range r.Needs {
			if err := add(n); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range only {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(slices.Clone(e.Set.Order), func(n string) bool { return !want[n] }), nil
}

// buildAll runs the parts, Jobs at a time: always the first in order of those
// whose needs are there. The first failure stops the rest.
func (e *Engine) buildAll(ctx context.Context, todo []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make(chan error)
	waiting, running := slices.Clone(todo), 0
	for {
		for running < max(e.Jobs, 1) && ctx.Err() == nil {
			i := slices.IndexFunc(waiting, e.ready)
			if i < 0 {
				break
			}
			name := waiting[i]
			waiting = slices.Delete(waiting, i, i+1)
			running++
			label := fmt.Sprintf("[%d/%d] %s", len(todo)-len(waiting), len(todo), name)
			go func() { results <- e.buildPart(ctx, e.Set.Recipes[name], label) }()
		}
		if running == 0 {
			return context.Cause(ctx)
		}
		err := <-results
		running--
		if err != nil {
			cancel(err)
		}
	}
}

// ready tells whether all that a recipe needs is built.
func (e *Engine) ready(name string) bool {
	return !slices.ContainsFunc(e.Set.Recipes[name].Needs, func(n string) bool { return !e.built(n) })
}

// lockCache keeps a second build of the same cache waiting.
func (e *Engine) lockCache() (func(), error) {
	if err := os.MkdirAll(e.Cache, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(e.Cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		e.say("another payload build is running on %s, waiting for it", e.Cache)
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// checkDisk refuses to start a part that would fill the disk.
func (e *Engine) checkDisk(name string, need uint64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(e.Cache, &st); err != nil {
		return err
	}
	if free := st.Bavail * uint64(st.Bsize); free < need {
		return problem.Newf(problem.ExitStep, "build "+name, "free some space below "+e.Cache+" or set PLINTH_CACHE to another disk, then run it again: it goes on where it stopped",
			"only %s of disk space left, %s are needed", bytesText(int64(free)), bytesText(int64(need)))
	}
	return nil
}

func (e *Engine) say(format string, args ...any) {
	e.log.Lock()
	defer e.log.Unlock()
	fmt.Fprintf(e.Out, format+"\n", args...)
}

func since(t time.Time) string { return time.Since(t).Round(time.Second).String() }

func bytesText(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
