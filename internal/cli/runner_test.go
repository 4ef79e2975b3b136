package cli

import (
	"bytes"
	"context"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
)

// newTestRunner returns a Runner that writes to buffers.
func newTestRunner() *runner {
	s := &runner{}
	s.Out, s.Err = &bytes.Buffer{}, &bytes.Buffer{}
	return s
}

func TestWriteOutcome_ReturnsExitCodeOfInterrupt(t *testing.T) {
	for name, err := range map[string]error{
		"canceled context":       context.Canceled,
		"interrupt":              ErrInterrupted,
		"problem with exit code": problem.New(problem.ExitInterrupted, "install", ErrInterrupted, "run it again"),
	} {
		t.Run(name, func(t *testing.T) {
			if code := newTestRunner().writeOutcome(err); code != 130 {
				t.Errorf("%v: exit %d", err, code)
			}
		})
	}
	t.Run("another exit code is kept", func(t *testing.T) {
		if code := newTestRunner().writeOutcome(problem.New(problem.ExitStep, "start k0s", context.Canceled, "")); code != 7 {
			t.Errorf("exit %d, want 7", code)
		}
	})
}
