package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
)

const (
	programTimeout   = 30 * time.Second // a program that names no time limit
	maxProgramOutput = 1 << 20          // bytes of one program, standard error included
)

// runVendorTests tests the requested load balancers and runs the requested programs, and
// adds the results to f. They have time limits of their own; the programs run one by one.
func (pr prober) runVendorTests(ctx context.Context, f *facts.Facts) {
	start := time.Now()
	var wg sync.WaitGroup
	if len(pr.req.Balancers) > 0 {
		f.Balancers = make([]facts.Balancer, len(pr.req.Balancers))
	}
	for i, key := range pr.req.Balancers {
		wg.Go(func() { f.Balancers[i] = facts.Balancer{BalancerKey: key, Status: pr.system.TestBalancer(ctx, key)} })
	}
	for _, key := range pr.req.Runs {
		got, err := pr.runProgram(ctx, key)
		if err != nil {
			f.Unknown = append(f.Unknown, facts.Unknown{Fact: facts.FactRun + ":" + key.Name, Reason: err.Error()})
			continue
		}
		f.Runs = append(f.Runs, got)
	}
	wg.Wait()
	f.TookMS += time.Since(start).Milliseconds()
}

// runProgram runs one program, without a shell. That it failed is a result; that it could
// not be started or took too long, so that its output is not complete, is an error.
func (pr prober) runProgram(ctx context.Context, key facts.CommandKey) (facts.CommandResult, error) {
	limit := min(key.Timeout, facts.MaxVendorTimeout)
	if limit <= 0 {
		limit = programTimeout
	}
	env := key.Env
	for _, name := range key.Inherit {
		value, ok := os.LookupEnv(name)
		if !ok {
			return facts.CommandResult{}, fmt.Errorf("the environment has no variable %s", name)
		}
		env = append(env[:len(env):len(env)], name+"="+value)
	}
	output := &outputLimit{left: maxProgramOutput}
	out, err := pr.machine.Run(ctx, host.Cmd{Argv: key.Argv, Env: env, Timeout: limit, Output: output, ReadOnly: true})
	got := facts.CommandResult{Name: key.Name, Output: string(out)}
	var failed *host.CommandError
	switch {
	case output.left < 0:
		return got, errTooMuchOutput
	case errors.As(err, &failed) && errors.Is(failed.Err, host.ErrTimedOut):
		return got, fmt.Errorf("the program was ended after %s, its time limit", limit)
	case errors.As(err, &failed) && !isNotStarted(err):
		got.Code, got.Error = failed.Code, failed.Tail
	case err != nil:
		return got, err
	}
	return got, nil
}

// isNotStarted reports whether err means that a program could not be started.
func isNotStarted(err error) bool {
	return errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOEXEC)
}

// errTooMuchOutput is the error of a program that writes more than maxProgramOutput.
var errTooMuchOutput = fmt.Errorf("the program writes more than %d bytes", maxProgramOutput)

// outputLimit is a writer that fails after left bytes, which ends the program that writes.
type outputLimit struct{ left int }

// Write discards p, or fails.
func (w *outputLimit) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errTooMuchOutput
	}
	return len(p), nil
}
