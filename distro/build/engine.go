// Package build builds the payload: all recipes that are not built yet, in order
// and some in parallel. It also verifies the payload with a second build and
// updates the Debian pins.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/plinthdev/plinth/distro/builder"
	"github.com/plinthdev/plinth/distro/cache"
	"github.com/plinthdev/plinth/distro/layout"
	"github.com/plinthdev/plinth/distro/oci"
	"github.com/plinthdev/plinth/distro/recipe"
	"github.com/plinthdev/plinth/internal/problem"
)

// minFree is the free disk space in bytes that is required to start a part.
const minFree = 5 << 30

// Engine builds the recipes of one cache.
type Engine struct {
	*cache.Cache
	Jobs int       // parts built at the same time
	Out  io.Writer // receives progress, line by line

	builder      *builder.Builder
	layoutWriter *layout.Writer
	outMu        sync.Mutex // guards Out and estimate
	estimate     *estimator
}

// New returns an engine for the recipes in the folder distro, or for a variant of
// them. Outputs are kept in the folder dir. The engine builds two parts in parallel
// and prints nothing.
func New(ctx context.Context, distro, variant, dir string) (*Engine, error) {
	c, err := cache.Open(ctx, distro, variant, dir)
	if err != nil {
		return nil, err
	}
	return &Engine{Cache: c, Jobs: 2, Out: io.Discard, builder: &builder.Builder{Cache: c}, layoutWriter: &layout.Writer{Cache: c}}, nil
}

// Run builds the named recipes and all recipes that they need, unless they are
// built; without names it builds every recipe. It updates the layout after each
// recipe and returns the layout's folder.
func (e *Engine) Run(ctx context.Context, only []string) (string, error) {
	if len(only) == 0 && e.IsComplete() {
		return e.LayoutDir(), nil
	}
	todo, err := e.selectRecipes(only)
	if err != nil {
		return "", err
	}
	unlock, err := e.lockCache()
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := e.ensureTools(ctx); err != nil {
		return "", err
	}
	start := time.Now()
	if err := e.buildAll(ctx, todo); err != nil {
		return "", err
	}
	if err := e.layoutWriter.Write(ctx); err != nil {
		return "", err
	}
	if len(only) == 0 {
		if err := oci.ReplaceFile(e.CompleteMarker(), []byte("ok\n")); err != nil {
			return "", err
		}
	}
	e.logf("payload ready in %s, %s: %s", elapsed(start), formatMegabytes(folderSize(e.LayoutDir())), e.LayoutDir())
	return e.LayoutDir(), nil
}

// selectRecipes returns the named recipes and the recipes that they need, in build
// order.
func (e *Engine) selectRecipes(only []string) ([]string, error) {
	if len(only) == 0 {
		return e.Set.Order, nil
	}
	for _, name := range only {
		if _, ok := e.Set.Recipes[name]; !ok {
			return nil, problem.Newf(problem.ExitUsage, "build "+name, fmt.Sprintf("recipes are: %v", e.Set.Order), "no recipe has this name")
		}
	}
	want := e.Set.WithNeeds(only...)
	return slices.DeleteFunc(slices.Clone(e.Set.Order), func(n string) bool { return !slices.Contains(want, n) }), nil
}

// buildAll builds the parts, Jobs in parallel. It always starts the first part in
// order whose needs are built. The first failure stops all other builds.
func (e *Engine) buildAll(ctx context.Context, todo []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make(chan error)
	waiting, running := slices.Clone(todo), 0
	e.estimate = newEstimator(slices.DeleteFunc(slices.Clone(todo), e.IsBuilt), e.Jobs, time.Now())
	for {
		for running < max(e.Jobs, 1) && ctx.Err() == nil {
			i := slices.IndexFunc(waiting, e.needsBuilt)
			if i < 0 {
				break
			}
			r := e.Set.Recipes[waiting[i]]
			waiting = slices.Delete(waiting, i, i+1)
			running++
			label := fmt.Sprintf("[%d/%d] %s %s", len(todo)-len(waiting), len(todo), r.Name, r.Version)
			go func() { results <- e.buildPart(ctx, r, label) }()
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

// needsBuilt reports whether all recipes that a recipe needs are built.
func (e *Engine) needsBuilt(name string) bool {
	return !slices.ContainsFunc(e.Set.Recipes[name].Needs, func(n string) bool { return !e.IsBuilt(n) })
}

// buildPart builds one recipe unless its output exists. It then updates the layout
// with the images and host artifacts that have become complete.
func (e *Engine) buildPart(ctx context.Context, r recipe.Recipe, label string) error {
	if e.IsBuilt(r.Name) {
		return nil
	}
	if err := e.checkDisk(r.Name, minFree); err != nil {
		return err
	}
	start := time.Now()
	e.estimating(func(s *estimator) { s.start(r.Name, start) })
	e.logf("%s: building%s", label, e.remaining())
	stop := e.startHeartbeat(label, start)
	cpu, err := e.builder.Build(ctx, r)
	stop()
	if err != nil {
		return problem.New(problem.ExitStep, "build "+r.Name+" "+r.Version, err, "run the same command again: it resumes where it stopped")
	}
	e.estimating(func(s *estimator) { s.finish(r.Name) })
	e.logf("%s: done in %s (CPU %s), %s", label, elapsed(start), cpu.Round(time.Second), formatMegabytes(folderSize(e.PartDir(r.Name))))
	return e.layoutWriter.Write(ctx)
}

// startHeartbeat reports twice a minute that a part is still being built, until
// stop is called.
func (e *Engine) startHeartbeat(label string, start time.Time) (stop func()) {
	quit := make(chan struct{})
	go func() {
		tick := time.NewTicker(30 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				e.logf("%s: still building, %s%s", label, elapsed(start), e.remaining())
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit) }
}

// lockCache waits until no other build uses the cache and returns a function that
// releases the lock.
func (e *Engine) lockCache() (func(), error) {
	if err := os.MkdirAll(e.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(e.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	unlock := func() { _ = f.Close() } // closing the file releases the lock
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		e.logf("another payload build is running on %s, waiting for it", e.Dir)
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return unlock, nil
}

// checkDisk returns an error if the disk has less than need bytes of free space.
func (e *Engine) checkDisk(name string, need uint64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(e.Dir, &st); err != nil {
		return err
	}
	if free := st.Bavail * uint64(st.Bsize); free < need {
		return problem.Newf(problem.ExitStep, "build "+name, "free disk space below "+e.Dir+" or set PLINTH_CACHE to a folder on another disk, then run the same command again: it resumes where it stopped",
			"only %s of disk space left, %s are needed", formatMegabytes(int64(free)), formatMegabytes(int64(need)))
	}
	return nil
}

// estimating calls f with the estimator of the build, one at a time.
func (e *Engine) estimating(f func(*estimator)) {
	e.outMu.Lock()
	defer e.outMu.Unlock()
	f(e.estimate)
}

// remaining says how long the build still takes, as the end of a line.
func (e *Engine) remaining() (text string) {
	e.estimating(func(s *estimator) { text = formatRemaining(s.remaining(time.Now())) })
	return text
}

func (e *Engine) logf(format string, args ...any) {
	e.outMu.Lock()
	defer e.outMu.Unlock()
	fmt.Fprintf(e.Out, format+"\n", args...)
}

func elapsed(t time.Time) string { return time.Since(t).Round(time.Second).String() }

func formatMegabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// folderSize returns the size in bytes of all files below dir that can be read.
func folderSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
