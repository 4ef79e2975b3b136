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

// install.sh removes its program after a plan, so that the next command cannot be "plinth".
func TestCommandLineWithout_NamesCommandThatExists(t *testing.T) {
	const script = "curl -fsSL https://get.example.com/install.sh | sudo bash -s --"
	for name, c := range map[string]struct {
		script string
		args   []string
		want   string
	}{
		"plinth":                  {"", []string{"install", "--bundle", "my app.bundle", "--plan"}, "plinth install --bundle 'my app.bundle'"},
		"install.sh":              {script, []string{"install", "--source", "https://get.example.com/linux-amd64", "--plan"}, script},
		"install.sh, more flags":  {script, []string{"install", "--source", "https://get.example.com/linux-amd64", "--yes", "--plan", "--license", "my license.yaml"}, script + " --yes --license 'my license.yaml'"},
		"another verb, inherited": {script, []string{"reset", "cluster", "--plan"}, "plinth reset cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestRunner()
			s.args, s.Environ = c.args, []string{"A=b"}
			if c.script != "" {
				s.Environ = append(s.Environ, installCommandVariable+"="+c.script)
			}
			if got := s.CommandLineWithout("--plan"); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestAnswerError_OfRefusalIsNoInterrupt(t *testing.T) {
	interrupted := problem.New(problem.ExitInterrupted, "continue", ErrInterrupted, "nothing was changed")
	for name, c := range map[string]struct {
		agreed bool
		err    error
		code   int
	}{
		"yes":    {true, nil, 0},
		"no":     {false, nil, problem.ExitUsage},
		"Ctrl-C": {false, interrupted, problem.ExitInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			err := answerError(c.agreed, c.err, "you did not confirm")
			if problem.ExitCode(err) != c.code || err != nil && problem.Hint(err) != "nothing was changed" {
				t.Errorf("%v (%s)", err, problem.Hint(err))
			}
		})
	}
}
