package probe

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeDisk is a disk whose syncs take a given time.
type fakeDisk struct {
	now   time.Time
	syncs int
	takes func(sync int) time.Duration
	err   error

	queued time.Duration // CPU wait of the thread
}

func (d *fakeDisk) Write(b []byte) (int, error) { return len(b), nil }
func (d *fakeDisk) Close() error                { return nil }
func (d *fakeDisk) Sync() error {
	d.now = d.now.Add(d.takes(d.syncs))
	d.syncs++
	return d.err
}

func (d *fakeDisk) bench() Bench {
	queued := func() (func() time.Duration, func()) {
		return func() time.Duration { return d.queued }, func() {}
	}
	return Bench{Now: func() time.Time { return d.now }, OpenFile: func(string, int64) (BenchFile, error) { return d, nil }, TrackCPUWait: queued}
}

func constantDelay(d time.Duration) func(int) time.Duration {
	return func(int) time.Duration { return d }
}

func TestMeasureFsync_MeasuresGoodDiskOnce(t *testing.T) {
	d := &fakeDisk{takes: func(i int) time.Duration {
		if i%500 == 7 {
			return 40 * time.Millisecond // below the 99th percentile, but not below the 99.9th
		}
		return 200 * time.Microsecond
	}}
	got, err := d.bench().MeasureFsync(t.Context(), "/data")
	if err != nil || got.Writes != fsyncWrites || got.Rounds != 1 || got.P50 != 200*time.Microsecond || got.P99 != 200*time.Microsecond || got.P999 != 40*time.Millisecond {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMeasureFsync_SubtractsCPUWait(t *testing.T) {
	d := &fakeDisk{}
	d.takes = func(int) time.Duration {
		d.queued += 30 * time.Millisecond
		return 31 * time.Millisecond
	}
	if got, err := d.bench().MeasureFsync(t.Context(), "/data"); err != nil || got.P99 != time.Millisecond || got.Rounds != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMeasureFsync_LimitsRoundsOfSlowDisk(t *testing.T) {
	d := &fakeDisk{takes: constantDelay(12 * time.Millisecond)}
	got, err := d.bench().MeasureFsync(t.Context(), "/data")
	if err != nil || got.Rounds != fsyncRounds || got.P99 != 12*time.Millisecond {
		t.Errorf("%+v, %v", got, err)
	}
	if took := d.now.Sub(time.Time{}); took > 5*time.Second+fsyncRounds*12*time.Millisecond {
		t.Errorf("it took %s", took)
	}
}

func TestMeasureFsync_RepeatsRoundAfterBusyMoment(t *testing.T) {
	d := &fakeDisk{takes: func(i int) time.Duration {
		if i < 40 {
			return 20 * time.Millisecond
		}
		return time.Millisecond
	}}
	got, err := d.bench().MeasureFsync(t.Context(), "/data")
	if err != nil || got.Rounds != 2 || got.P99 != time.Millisecond {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMeasureFsync_LimitsTimeOfVerySlowDisk(t *testing.T) {
	d := &fakeDisk{takes: constantDelay(time.Second)}
	if got, err := d.bench().MeasureFsync(t.Context(), "/data"); err != nil || got.Writes != 1 || got.Rounds != fsyncRounds {
		t.Errorf("%+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.bench().MeasureFsync(ctx, "/data"); !errors.Is(err, context.Canceled) {
		t.Errorf("it continues after its context was canceled: %v", err)
	}
}

func TestMeasureWrite_LimitsTimeAndSpace(t *testing.T) {
	slow := &fakeDisk{takes: constantDelay(700 * time.Millisecond)}
	got, err := slow.bench().MeasureWrite(t.Context(), "/data", 1<<40)
	if err != nil || got.Bytes != 2*writeSyncBlocks*writeBlock || int(got.BytesPerSecond()/1e6) != 5 {
		t.Errorf("%+v, %v", got, err)
	}
	fast := &fakeDisk{takes: constantDelay(time.Millisecond)}
	if got, err = fast.bench().MeasureWrite(t.Context(), "/data", 1<<40); err != nil || got.Bytes != writeMaxBytes {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = fast.bench().MeasureWrite(t.Context(), "/data", 40<<20); err != nil || got.Bytes > 20<<20 {
		t.Errorf("on an almost full disk: %+v, %v", got, err)
	}
	if _, err = fast.bench().MeasureWrite(t.Context(), "/data", 1<<20); err == nil {
		t.Error("it writes to a full disk")
	}
}

func TestBench_ReturnsDiskErrors(t *testing.T) {
	d := &fakeDisk{takes: constantDelay(time.Millisecond), err: unix.EIO}
	if _, err := d.bench().MeasureFsync(t.Context(), "/data"); !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
	if _, err := d.bench().MeasureWrite(t.Context(), "/data", 1<<40); !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
}

// TestLocalBench_MeasuresThisMachine runs the benchmarks on this machine:
// nothing is left behind, nothing takes long.
func TestLocalBench_MeasuresThisMachine(t *testing.T) {
	dir, b := t.TempDir(), localBench()
	start := time.Now()
	sync, err := b.MeasureFsync(t.Context(), dir)
	if err != nil || sync.P50 <= 0 || sync.P99 < sync.P50 || sync.P999 < sync.P99 {
		t.Errorf("%+v, %v", sync, err)
	}
	write, err := b.MeasureWrite(t.Context(), dir, 1<<30)
	if err != nil || write.BytesPerSecond() <= 0 {
		t.Errorf("%+v, %v", write, err)
	}
	core := b.MeasureCore()
	if core.MBps <= 0 {
		t.Errorf("%+v", core)
	}
	t.Logf("%+v, %.0f MB/s, core %.0f MB/s, in %s", sync, write.BytesPerSecond()/1e6, core.MBps, time.Since(start))
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := b.MeasureFsync(t.Context(), dir+"/none"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a directory that does not exist: %v", err)
	}
}
