package session

import (
	"bytes"
	"context"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
)

func TestACancelledRunIsInterrupted(t *testing.T) {
	for _, err := range []error{context.Canceled, ErrInterrupted, problem.New(problem.ExitInterrupted, "install", ErrInterrupted, "go on")} {
		s := &Session{Process: Process{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}}
		if code := s.finish(err); code != 130 {
			t.Errorf("%v: exit %d", err, code)
		}
	}
	s := &Session{Process: Process{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}}
	if code := s.finish(problem.New(problem.ExitStep, "start k0s", context.Canceled, "")); code != 7 {
		t.Errorf("a problem's own code is lost: exit %d", code)
	}
}
