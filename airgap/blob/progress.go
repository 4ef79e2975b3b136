package blob

import (
	"context"
	"io"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Progress adds up the bytes of several readers for one progress display.
type Progress struct {
	mu          sync.Mutex
	done, total int64
	reported    int64
	report      func(done, total int64)
}

// NewProgress returns a Progress that calls tell about once per thousandth of
// total bytes and at the end, never concurrently. tell may be nil.
func NewProgress(total int64, tell func(done, total int64)) *Progress {
	return &Progress{total: total, report: tell}
}

// AddTotal adds n bytes to the total, for callers that learn the total over time.
func (m *Progress) AddTotal(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total += n
}

// Finish reports the total as done, even if fewer bytes had to be read.
func (m *Progress) Finish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.report != nil && m.reported != m.total {
		m.done, m.reported = m.total, m.total
		m.report(m.done, m.total)
	}
}

// Add adds n bytes to the bytes done.
func (m *Progress) Add(n int) {
	if m.report == nil || n == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done = min(m.done+int64(n), m.total) // a blob may be read twice
	if m.done-m.reported > m.total/1000 || m.done == m.total && m.reported != m.total {
		m.reported = m.done
		m.report(m.done, m.total)
	}
}

// WithProgress returns src with readers that add the bytes read to m.
func WithProgress(src Source, m *Progress) Source { return progressSource{src, m} }

type progressSource struct {
	src      Source
	progress *Progress
}

func (s progressSource) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := s.src.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	return progressReader{r, s.progress}, nil
}

type progressReader struct {
	io.ReadCloser
	progress *Progress
}

func (r progressReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.progress.Add(n)
	return n, err
}
