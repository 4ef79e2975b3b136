package plan

import (
	"context"
	"io"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/step"
)

// fileStep returns the step id that writes the file f of the bundle to its path on the host.
func fileStep(h host.Host, id, title string, f node.Artifact) step.Step {
	return step.Step{ID: id, Title: title, Affects: []string{f.Path},
		Check: func(ctx context.Context) (step.State, error) { return stepState(f.Check(ctx, h)) },
		Apply: func(_ context.Context, report step.Report) error { return withProgress(f, report).Apply(h) },
	}
}

// withProgress returns f with a reader that reports the number of written bytes.
func withProgress(f node.Artifact, report step.Report) node.Artifact {
	open := f.Open
	f.Open = func() (io.ReadCloser, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{&step.Counter{Reader: r, Report: func(n int64) { report("writing "+f.Path, n, f.Size) }}, r}, nil
	}
	return f
}
