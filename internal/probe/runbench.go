package probe

import (
	"context"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
)

// runBenchmarks runs the requested benchmarks one by one and adds their results
// to f.
func (pr prober) runBenchmarks(ctx context.Context, f *facts.Facts) {
	start := time.Now()
	if p := pr.req.FsyncPath; p != "" {
		got, err := runWithLimit(ctx, fsyncTimeout, func(ctx context.Context) (facts.FsyncLatency, error) {
			at, err := pr.locate(p)
			if err != nil {
				return facts.FsyncLatency{}, err
			}
			return pr.bench.MeasureFsync(ctx, at.exists)
		})
		if err == errHang {
			// This is a result: not a single write completed in that time.
			got, err = facts.FsyncLatency{Path: p, P50: fsyncTimeout, P99: fsyncTimeout, P999: fsyncTimeout}, nil
		}
		recordMeasure(f, "fsync", err, func() { f.Measures.Fsync = &got })
	}
	if p := pr.req.WritePath; p != "" {
		got, err := runWithLimit(ctx, writeTimeout, func(ctx context.Context) (facts.WriteSpeed, error) {
			at, err := pr.locate(p)
			if err != nil {
				return facts.WriteSpeed{}, err
			}
			space, err := pr.system.StatFilesystem(at.exists)
			if err != nil {
				return facts.WriteSpeed{}, err
			}
			return pr.bench.MeasureWrite(ctx, at.exists, int64(space.Available))
		})
		recordMeasure(f, "write", err, func() { f.Measures.Write = &got })
	}
	if pr.req.MeasureCore {
		core := pr.bench.MeasureCore()
		f.Measures.Core = &core
	}
	f.TookMS += time.Since(start).Milliseconds()
}

// recordMeasure calls found, or adds the benchmark name to f.Unknown if err is
// not nil.
func recordMeasure(f *facts.Facts, name string, err error, found func()) {
	if err != nil {
		f.Unknown = append(f.Unknown, facts.Unknown{Fact: facts.FactMeasure + ":" + name, Reason: err.Error()})
		return
	}
	found()
}

// hangError is the error of a disk whose system call did not return within
// fsyncTimeout.
type hangError struct{}

func (hangError) Error() string { return fmt.Sprintf("no answer within %s", fsyncTimeout) }

var errHang error = hangError{}

// runWithLimit runs try for at most limit and returns errHang after that. A
// system call that does not return is abandoned: it ends with the process.
func runWithLimit[T any](ctx context.Context, limit time.Duration, try func(context.Context) (T, error)) (T, error) {
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
		return none, errHang
	}
}
