package probe

import (
	"context"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
)

// runBenchmarks runs the requested benchmarks one by one and adds their results
// to f.
func (pr look) measures(ctx context.Context, f *facts.Facts) {
	start := time.Now()
	if p := pr.req.Fsync; p != "" {
		got, err := bounded(ctx, fsyncLimit, func(ctx context.Context) (facts.Fsync, error) {
			dir, err := pr.nearest(p)
			if err != nil {
				return facts.Fsync{}, err
			}
			return pr.bench.Fsync(ctx, dir)
		})
		if err == errHangs {
			// This is a result: not a single write completed in that time.
			got, err = facts.Fsync{Path: p, P50: fsyncLimit, P99: fsyncLimit, P999: fsyncLimit}, nil
		}
		note(f, "fsync", err, func() { f.Measures.Fsync = &got })
	}
	if p := pr.req.Write; p != "" {
		got, err := bounded(ctx, writeLimit, func(ctx context.Context) (facts.Write, error) {
			dir, err := pr.nearest(p)
			if err != nil {
				return facts.Write{}, err
			}
			space, err := pr.k.Statfs(dir)
			if err != nil {
				return facts.Write{}, err
			}
			return pr.bench.Write(ctx, dir, int64(space.Available))
		})
		note(f, "write", err, func() { f.Measures.Write = &got })
	}
	if pr.req.Core {
		core := pr.bench.Core()
		f.Measures.Core = &core
	}
	f.TookMS += time.Since(start).Milliseconds()
}

// recordMeasure calls found, or adds the benchmark name to f.Unknown if err is
// not nil.
func note(f *facts.Facts, name string, err error, found func()) {
	if err != nil {
		f.Unknown = append(f.Unknown, facts.Unknown{Fact: facts.FactMeasure + ":" + name, Why: err.Error()})
		return
	}
	found()
}

// hangError is the error of a disk whose system call did not return within
// fsyncTimeout.
type hangs struct{}

func (hangs) Error() string { return fmt.Sprintf("no answer within %s", fsyncLimit) }

var errHangs error = hangs{}

// runWithLimit runs try for at most limit and returns errHang after that. A
// system call that does not return is abandoned: it ends with the process.
func bounded[T any](ctx context.Context, limit time.Duration, try func(context.Context) (T, error)) (T, error) {
	type reply struct {
		got T
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	replies := make(chan reply, 1)
	go func() {
		got, err := try(ctx)
		replies <- reply{got, err}
	}()
	var none T
	select {
	case r := <-replies:
		return r.got, r.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	case <-time.After(limit):
		return none, errHangs
	}
}
