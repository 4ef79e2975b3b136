package problem_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
)

func TestProblem_FormatsOneSentenceAndKeepsItsCause(t *testing.T) {
	err := problem.Newf(problem.ExitBundle, "open bundle app.tar", "give another", "read: %w", fs.ErrNotExist)
	if got := err.Error(); got != "cannot open bundle app.tar: read: file does not exist" {
		t.Errorf("got %q", got)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the cause is lost")
	}
}

func TestExitCode_AndHintComeFromTheOutermostProblem(t *testing.T) {
	plain := errors.New("plain")
	inner := problem.New(problem.ExitGate, "install", plain, "take another version")
	noHint := problem.New(problem.ExitStep, "start", plain, "")
	for name, c := range map[string]struct {
		err  error
		exit int
		hint string
	}{
		"no error":                        {nil, problem.ExitOK, ""},
		"an error that is not a Problem":  {plain, problem.ExitInternal, ""},
		"a problem":                       {inner, problem.ExitGate, "take another version"},
		"a wrapped problem":               {fmt.Errorf("first: %w", fmt.Errorf("then: %w", inner)), problem.ExitGate, "take another version"},
		"the outermost of two decides":    {problem.New(problem.ExitStep, "run", inner, "run it again"), problem.ExitStep, "run it again"},
		"the inner hint if none outside":  {problem.New(problem.ExitStep, "run", fmt.Errorf("step: %w", inner), ""), problem.ExitStep, "take another version"},
		"a problem without a code":        {problem.New(0, "run", plain, ""), problem.ExitInternal, ""},
		"joined with a plain error":       {errors.Join(plain, inner), problem.ExitGate, "take another version"},
		"joined, only the second hints":   {errors.Join(noHint, inner), problem.ExitStep, "take another version"},
		"joined under a problem":          {problem.New(problem.ExitLeftover, "reset", errors.Join(plain, noHint, inner), ""), problem.ExitLeftover, "take another version"},
		"joined under a wrapped problem":  {fmt.Errorf("then: %w", errors.Join(noHint, errors.Join(plain, inner))), problem.ExitStep, "take another version"},
		"no hint anywhere":                {errors.Join(noHint, plain), problem.ExitStep, ""},
		"several causes by a format verb": {fmt.Errorf("%w and %w", noHint, inner), problem.ExitStep, "take another version"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problem.ExitCode(c.err); got != c.exit {
				t.Errorf("exit code %d, want %d", got, c.exit)
			}
			if got := problem.Hint(c.err); got != c.hint {
				t.Errorf("hint %q, want %q", got, c.hint)
			}
		})
	}
}

func TestError_OmitsSystemCalls(t *testing.T) {
	_, missing := os.Open("/nope/index.json")
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"a path":         {missing, "cannot use it: /nope/index.json: no such file or directory"},
		"a wrapped path": {fmt.Errorf("the source is damaged: %w", missing), "cannot use it: the source is damaged: /nope/index.json: no such file or directory"},
		"no path":        {errors.New("it is damaged"), "cannot use it: it is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problem.New(problem.ExitUsage, "use it", c.err, "").Error(); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
