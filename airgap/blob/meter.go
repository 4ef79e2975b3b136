package blob

import (
	"context"
	"io"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Progress adds up the bytes of several readers for one progress display.
type Meter struct {
	mu          sync.Mutex
	done, total int64
	told        int64
	tell        func(done, total int64)
}

// NewProgress returns a Progress that calls tell about once per thousandth of
// total bytes and at the end, never concurrently. tell may be nil.
func NewMeter(total int64, tell func(done, total int64)) *Meter {
	return &Meter{total: total, tell: tell}
}

// AddTotal adds n bytes to the total, for callers that learn the total over time.
func (m *Meter) Grow(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total += n
}

// Finish reports the total as done, even if fewer bytes had to be read.
func (m *Meter) Finish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tell != nil && m.told != m.total {
		m.done, m.told = m.total, m.total
		m.tell(m.done, m.total)
	}
}

// Add adds n bytes to the bytes done.
func (m *Meter) Add(n int) {
	if m.tell == nil || n == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = min(m.done+int64(n), m.total) // a blob may be read twice
	if m.done-m.told > m.total/1000 || m.done == m.total && m.told != m.total {
		m.told = m.done
		m.tell(m.done, m.total)
	}
}

// WithProgress returns src with readers that add the bytes read to m.
func Metered(src Source, m *Meter) Source { return metered{src, m} }

type metered struct {
	src   Source
	meter *Meter
}

func (s metered) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := s.src.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	return meteredReader{r, s.meter}, nil
}

type meteredReader struct {
	io.ReadCloser
	meter *Meter
}

func (r meteredReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.meter.Add(n)
	return n, err
}
