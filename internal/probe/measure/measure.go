// Package measure owns trying out what a host's disk and processor do: bounded
// in time and space, in files that have no name, so that nothing stays behind
// however the process ends. It refuses to judge.
package measure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
)

// File is what is written to.
type File interface {
	Write(b []byte) (int, error)
	Sync() error // fdatasync(2)
	Close() error
}

// Bench is what the measures are made with. A test replaces single parts.
// Queued begins to tell how long this thread has waited for a processor, which
// is no delay of the disk's.
type Bench struct {
	Now    func() time.Time
	Open   func(dir string, size int64) (File, error) // without a name, room for size reserved
	Queued func() (total func() time.Duration, done func())
}

// Running is the machine that this process runs on.
func Running() Bench { return Bench{Now: time.Now, Open: open, Queued: queued} }

// etcd's disk test, as its documentation gives it for fio: writes of 2,300
// bytes, each followed by fdatasync. A round is ended early, and repeated
// unless it was good: on a busy machine the first may be bad by chance.
const (
	fsyncBlock  = 2300
	fsyncWrites = 1000 // as many as a 99.9th percentile needs
	fsyncLimit  = time.Second
	fsyncRounds = 5
	fsyncGood   = 5 * time.Millisecond // half of what etcd's documentation calls the limit
)

// Fsync measures the folder dir as etcd would use it, for at most five seconds
// and a write.
func (b Bench) Fsync(ctx context.Context, dir string) (facts.Fsync, error) {
	best := facts.Fsync{}
	for round := 1; round <= fsyncRounds; round++ {
		took, err := b.syncs(ctx, dir)
		if err != nil {
			return best, err
		}
		if p99 := percentile(took, 990); best.Rounds == 0 || p99 < best.P99 {
			best = facts.Fsync{Path: dir, Writes: len(took), P50: percentile(took, 500), P99: p99, P999: percentile(took, 999)}
		}
		best.Rounds = round
		if best.P99 < fsyncGood {
			break
		}
	}
	return best, nil
}

// syncs is one round: how long each fdatasync took.
func (b Bench) syncs(ctx context.Context, dir string) (took []time.Duration, err error) {
	f, err := b.Open(dir, fsyncBlock*fsyncWrites)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	waited, done := b.Queued()
	defer done()
	block, begin := make([]byte, fsyncBlock), b.Now()
	for len(took) < fsyncWrites && b.Now().Sub(begin) < fsyncLimit {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if _, err := f.Write(block); err != nil {
			return nil, fmt.Errorf("write to %s: %w", dir, err)
		}
		start, before := b.Now(), waited()
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("fdatasync in %s: %w", dir, err)
		}
		took = append(took, max(0, b.Now().Sub(start)-(waited()-before)))
	}
	slices.Sort(took)
	return took, nil
}

// percentile of sorted durations, in thousandths.
func percentile(sorted []time.Duration, thousandths int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*thousandths/1000)]
}

// A long file is written in pieces that are each made to last: otherwise the
// page cache would be measured, and a slow disk could hold the end up.
const (
	writeBlock = 1 << 20
	writeSync  = 4 // blocks
	writeLimit = time.Second
	writeMost  = 64 << 20
)

// Write measures how fast dir takes a long file, of at most room bytes, for at
// most a second and one piece.
func (b Bench) Write(ctx context.Context, dir string, room int64) (w facts.Write, err error) {
	most := min(writeMost, room/4)
	if most < writeSync*writeBlock {
		return w, fmt.Errorf("there is no room to try it in %s", dir)
	}
	f, err := b.Open(dir, most)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	block, begin := make([]byte, writeBlock), b.Now()
	for w.Path = dir; w.Bytes < most && w.Took < writeLimit; w.Took = b.Now().Sub(begin) {
		if ctx.Err() != nil {
			return w, context.Cause(ctx)
		}
		for range writeSync {
			if _, err := f.Write(block); err != nil {
				return w, fmt.Errorf("write to %s: %w", dir, err)
			}
			w.Bytes += writeBlock
		}
		if err := f.Sync(); err != nil {
			return w, fmt.Errorf("fdatasync in %s: %w", dir, err)
		}
	}
	return w, nil
}

// A piece is small enough to fit between two interruptions, and the best of
// many counts.
const (
	corePiece  = 256 << 10
	corePieces = 60
)

// Core measures one processor, for some 50 ms.
func (b Bench) Core() facts.Core {
	best, hash := time.Duration(0), uint64(14695981039346656037)
	for range corePieces {
		start := b.Now()
		for i := range corePiece {
			hash = (hash ^ uint64(i&0xff)) * 1099511628211
		}
		if took := b.Now().Sub(start); took > 0 && (best == 0 || took < best) {
			best = took
		}
	}
	if best == 0 || hash == 0 { // the hash is used, so that it is made
		return facts.Core{}
	}
	return facts.Core{MBps: float64(corePiece) / 1e6 / best.Seconds()}
}
