package probe

import (
	"context"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
)

// measures tries out what was asked for.
func (l look) measures(ctx context.Context, f *facts.Facts) {
	start := time.Now()
	if p := l.req.Fsync; p != "" {
		got, err := bounded(ctx, fsyncLimit, func(ctx context.Context) (facts.Fsync, error) {
			dir, err := l.nearest(p)
			if err != nil {
				return facts.Fsync{}, err
			}
			return l.bench.Fsync(ctx, dir)
		})
		if err == errHangs {
			// That is an answer: not one write came back in that time.
			got, err = facts.Fsync{Path: p, P50: fsyncLimit, P99: fsyncLimit, P999: fsyncLimit}, nil
		}
		note(f, "fsync", err, func() { f.Measures.Fsync = &got })
	}
	if p := l.req.Write; p != "" {
		got, err := bounded(ctx, writeLimit, func(ctx context.Context) (facts.Write, error) {
			dir, err := l.nearest(p)
			if err != nil {
				return facts.Write{}, err
			}
			space, err := l.k.Statfs(dir)
			if err != nil {
				return facts.Write{}, err
			}
			return l.bench.Write(ctx, dir, int64(space.Available))
		})
		note(f, "write", err, func() { f.Measures.Write = &got })
	}
	if l.req.Core {
		core := l.bench.Core()
		f.Measures.Core = &core
	}
	f.TookMS += time.Since(start).Milliseconds()
}

func note(f *facts.Facts, what string, err error, found func()) {
	if err != nil {
		f.Unknown = append(f.Unknown, facts.Unknown{Fact: facts.FactMeasure + ":" + what, Why: err.Error()})
		return
	}
	found()
}

// hangs is what a disk does that does not let a system call return.
type hangs struct{}

func (hangs) Error() string { return fmt.Sprintf("no answer within %s", fsyncLimit) }

var errHangs error = hangs{}

// bounded runs try for at most limit. A call that the kernel does not let
// return is left alone: it ends with the process.
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
