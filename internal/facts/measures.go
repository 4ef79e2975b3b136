package facts

import "time"

// Measures are what only trying tells; nil where nobody tried.
type Measures struct {
	Fsync *Fsync `json:"fsync,omitempty"`
	Write *Write `json:"write,omitempty"`
	Core  *Core  `json:"core,omitempty"`
}

// Fsync is how long the disk takes to make small writes last: etcd waits for
// that with every change of the cluster. Of several rounds it is the best one:
// what else the machine does only adds to it.
type Fsync struct {
	Path   string        `json:"path"`   // folder
	Writes int           `json:"writes"` // of the round
	Rounds int           `json:"rounds"` // that were made; 0 when not one write came back, the times being how long was waited
	P50    time.Duration `json:"p50"`    // nanoseconds, as the two others
	P99    time.Duration `json:"p99"`
	P999   time.Duration `json:"p999"`
}

// Write is how fast the disk takes a long file.
type Write struct {
	Path  string        `json:"path"`  // folder
	Bytes int64         `json:"bytes"` // written and synced
	Took  time.Duration `json:"took"`  // nanoseconds
}

// Rate is bytes a second.
func (w Write) Rate() float64 {
	if w.Took <= 0 {
		return 0
	}
	return float64(w.Bytes) / w.Took.Seconds()
}

// Core is a coarse number for the speed of one processor: megabytes a second
// through a hash whose steps wait for each other (FNV-1a), about a quarter of
// the clock in MHz.
type Core struct {
	MBps float64 `json:"mbps"`
}
