package facts

import "time"

// Measures contains the results of the benchmarks; nil for those that did not run.
type Measures struct {
	Fsync *FsyncLatency `json:"fsync,omitempty"`
	Write *WriteSpeed   `json:"write,omitempty"`
	Core  *CoreSpeed    `json:"core,omitempty"`
}

// FsyncLatency is how long the disk takes to sync small writes: etcd waits for that
// on every change in the cluster. It is the best of several rounds, because other
// load on the machine only adds to the latency.
type FsyncLatency struct {
	Path   string        `json:"path"`   // directory
	Writes int           `json:"writes"` // number of writes in the round
	Rounds int           `json:"rounds"` // number of rounds; 0 if not one write finished, and then the times are how long it waited
	P50    time.Duration `json:"p50"`    // nanoseconds, like P99 and P999
	P99    time.Duration `json:"p99"`
	P999   time.Duration `json:"p999"`
}

// WriteSpeed is how fast the disk writes a large file.
type WriteSpeed struct {
	Path  string        `json:"path"`  // directory
	Bytes int64         `json:"bytes"` // written and synced
	Took  time.Duration `json:"took"`  // nanoseconds
}

// BytesPerSecond returns the write rate, or 0 when it is not known.
func (w WriteSpeed) BytesPerSecond() float64 {
	if w.Took <= 0 {
		return 0
	}
	return float64(w.Bytes) / w.Took.Seconds()
}

// CoreSpeed is a rough measure of the speed of one processor: megabytes per second
// through a hash whose steps depend on each other (FNV-1a), about a quarter of the
// clock rate in MHz.
type CoreSpeed struct {
	MBps float64 `json:"mbps"`
}
