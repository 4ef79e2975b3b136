package agent

import (
	"context"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
)

// recordsMaxAge is how old the records may be by which a node keeps what it has.
const recordsMaxAge = 2 * time.Second

// deniedMaxAge is how old the records may be by which a node is refused: the node may have been admitted
// a moment ago, and the API server keeps a denial for 10 s. It limits how often a refused node has
// the records read.
const deniedMaxAge = 200 * time.Millisecond

// recordsTimeout is how long a client waits for the records. The API server waits longer for a review.
const recordsTimeout = 2 * time.Second

// RecordCache holds the records of admitted nodes, so that the questions of the API server and of a
// thousand nodes do not each read and parse all records.
type RecordCache struct {
	Read func(context.Context) (kube.NodeRecords, error)
	Now  func() time.Time

	mu      sync.Mutex
	records kube.NodeRecords
	err     error // of the last read
	readAt  time.Time
}

// Get returns the records, less than maxAge old. If they cannot be read, it returns the last ones
// and the error.
func (c *RecordCache) Get(ctx context.Context, maxAge time.Duration) (kube.NodeRecords, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Now().Sub(c.readAt) < maxAge {
		return c.records, c.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordsTimeout) // others wait for it, too
	defer cancel()
	records, err := c.Read(ctx)
	if c.err = err; err == nil {
		c.records = records
	}
	c.readAt = c.Now()
	return c.records, c.err
}
