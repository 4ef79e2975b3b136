package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
)

// BenchFile is the file that a benchmark writes to.
type BenchFile interface {
	Write(b []byte) (int, error)
	Sync() error // fdatasync(2)
	Close() error
}

// Bench contains what the benchmarks use from the machine; tests replace single
// fields.
type Bench struct {
	Now      func() time.Time
	OpenFile func(dir string, size int64) (BenchFile, error) // returns a file without a name, with size bytes reserved
	// TrackCPUWait starts to track how long this thread waits for a processor,
	// which must not count as a delay of the disk.
	TrackCPUWait func() (total func() time.Duration, done func())
}

// localBench returns the Bench of the machine that this process runs on.
func localBench() Bench {
	return Bench{Now: time.Now, OpenFile: openBenchFile, TrackCPUWait: trackCPUWait}
}

// The parameters of etcd's disk test, as its documentation gives them for fio:
// writes of 2,300 bytes, each followed by fdatasync. A round ends early after
// fsyncRoundLimit, and is repeated unless its result was good: on a busy
// machine the first round may be bad by chance.
const (
	fsyncBlock      = 2300
	fsyncWrites     = 1000 // as many as a 99.9th percentile needs
	fsyncRoundLimit = time.Second
	fsyncRounds     = 5
	fsyncGood       = 5 * time.Millisecond // half of the limit in etcd's documentation
)

// MeasureFsync measures the directory dir as etcd would use it, for at most
// five seconds plus one write, and returns the best of its rounds.
func (b Bench) MeasureFsync(ctx context.Context, dir string) (facts.FsyncLatency, error) {
	best := facts.FsyncLatency{}
	for round := 1; round <= fsyncRounds; round++ {
		took, err := b.timeSyncs(ctx, dir)
		if err != nil {
			return best, err
		}
		if p99 := durationPercentile(took, 990); best.Rounds == 0 || p99 < best.P99 {
			best = facts.FsyncLatency{Path: dir, Writes: len(took), P50: durationPercentile(took, 500), P99: p99, P999: durationPercentile(took, 999)}
		}
		best.Rounds = round
		if best.P99 < fsyncGood {
			break
		}
	}
	return best, nil
}

// timeSyncs runs one round and returns the sorted durations of its fdatasync
// calls.
func (b Bench) timeSyncs(ctx context.Context, dir string) (took []time.Duration, err error) {
	f, err := b.OpenFile(dir, fsyncBlock*fsyncWrites)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	waited, done := b.TrackCPUWait()
	defer done()
	block, begin := make([]byte, fsyncBlock), b.Now()
	for len(took) < fsyncWrites && b.Now().Sub(begin) < fsyncRoundLimit {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if _, err := f.Write(block); err != nil {
			return nil, fmt.Errorf("cannot write to %s: %w", dir, err)
		}
		start, before := b.Now(), waited()
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("cannot sync a file in %s: %w", dir, err)
		}
		took = append(took, max(0, b.Now().Sub(start)-(waited()-before)))
	}
	slices.Sort(took)
	return took, nil
}

// durationPercentile returns the given percentile, in thousandths, of sorted
// durations.
func durationPercentile(sorted []time.Duration, thousandths int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*thousandths/1000)]
}

// A large file is written in pieces, each followed by fdatasync: otherwise the
// page cache would be measured, and a slow disk could delay the end.
const (
	writeBlock      = 1 << 20
	writeSyncBlocks = 4 // blocks
	writeRunLimit   = time.Second
	writeMaxBytes   = 64 << 20
)

// MeasureWrite measures how fast dir takes a large file, for at most one second
// plus one piece. free is the free space of dir in bytes; at most a quarter of
// it is used.
func (b Bench) MeasureWrite(ctx context.Context, dir string, free int64) (w facts.WriteSpeed, err error) {
	most := min(writeMaxBytes, free/4)
	if most < writeSyncBlocks*writeBlock {
		return w, fmt.Errorf("not enough free space in %s for the write benchmark", dir)
	}
	f, err := b.OpenFile(dir, most)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	block, begin := make([]byte, writeBlock), b.Now()
	for w.Path = dir; w.Bytes < most && w.Took < writeRunLimit; w.Took = b.Now().Sub(begin) {
		if ctx.Err() != nil {
			return w, context.Cause(ctx)
		}
		for range writeSyncBlocks {
			if _, err := f.Write(block); err != nil {
				return w, fmt.Errorf("cannot write to %s: %w", dir, err)
			}
			w.Bytes += writeBlock
		}
		if err := f.Sync(); err != nil {
			return w, fmt.Errorf("cannot sync a file in %s: %w", dir, err)
		}
	}
	return w, nil
}

// A chunk is small enough to fit between two interruptions; the best of many
// chunks counts.
const (
	coreChunkSize = 256 << 10
	coreChunks    = 60
)

// MeasureCore measures the speed of one processor, for about 50 ms.
func (b Bench) MeasureCore() facts.CoreSpeed {
	best, hash := time.Duration(0), uint64(14695981039346656037)
	for range coreChunks {
		start := b.Now()
		for i := range coreChunkSize {
			hash = (hash ^ uint64(i&0xff)) * 1099511628211
		}
		if took := b.Now().Sub(start); took > 0 && (best == 0 || took < best) {
			best = took
		}
	}
	if best == 0 || hash == 0 { // use the hash, so that the compiler does not remove it
		return facts.CoreSpeed{}
	}
	return facts.CoreSpeed{MBps: float64(coreChunkSize) / 1e6 / best.Seconds()}
}
