// Package hosttest owns the strict fake of a host: files are real, below a
// temporary root; commands, units and processes are scripted. An unexpected
// command fails the test, an expected one that never came fails it too. It
// refuses to guess.
package hosttest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
)

// Fake is a scripted host.
type Fake struct {
	Root  string                    // folder that stands for /
	Unit  map[string]host.UnitState // by name; a missing one is not-found
	Proc  []host.Process            // what ListProcesses answers; Kill removes
	Deaf  []int                     // processes that Terminate does not end
	Asked []int                     // what Terminate was asked, in order
	Sets  []string                  // what ListSets answers; DestroySet removes

	t      testing.TB
	mu     sync.Mutex
	expect []*Expectation
	Ran    []string // every command that was run, in order
}

// Expectation is one command that a test foresees.
type Expectation struct {
	prefix string
	out    string
	err    error
	do     func(host.Cmd)
	times  int // how often it may still come; -1 for any number
	met    bool
}

// New returns a fake whose open expectations are checked when t ends.
func New(t testing.TB) *Fake {
	f := &Fake{Root: t.TempDir(), Unit: map[string]host.UnitState{}, t: t}
	t.Cleanup(func() {
		for _, e := range f.expect {
			if !e.met {
				t.Errorf("expected command never came: %s", e.prefix)
			}
		}
	})
	return f
}

// Host is the fake as a host.Host.
func (f *Fake) Host() host.Host {
	local := host.Local(f.Root)
	return host.Host{Commands: f, Files: local.Files, Streams: local.Streams, Units: f, Processes: f, AddressSets: f}
}

// Expect foresees one command whose argv, joined by spaces, begins with prefix.
func (f *Fake) Expect(prefix string) *Expectation {
	e := &Expectation{prefix: prefix, times: 1}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expect = append(f.expect, e)
	return e
}

// Return sets what the command prints and how it ends.
func (e *Expectation) Return(out string, err error) *Expectation {
	e.out, e.err = out, err
	return e
}

// Do runs fn when the command comes, for its effect on the fake's files.
func (e *Expectation) Do(fn func(host.Cmd)) *Expectation { e.do = fn; return e }

// Often lets the command come any number of times, at least once.
func (e *Expectation) Often() *Expectation { e.times = -1; return e }

// Run answers from the script.
func (f *Fake) Run(_ context.Context, cmd host.Cmd) ([]byte, error) {
	line := strings.Join(cmd.Argv, " ")
	f.mu.Lock()
	f.Ran = append(f.Ran, line)
	var found *Expectation
	for _, e := range f.expect {
		if e.times != 0 && strings.HasPrefix(line, e.prefix) {
			found = e
			break
		}
	}
	if found != nil {
		found.met = true
		if found.times > 0 {
			found.times--
		}
	}
	f.mu.Unlock()
	if found == nil {
		f.t.Errorf("unexpected command: %s", line)
		return nil, fmt.Errorf("unexpected command: %s", line)
	}
	if found.do != nil {
		found.do(cmd)
	}
	return []byte(found.out), found.err
}

// UnitState answers from Unit.
func (f *Fake) UnitState(_ context.Context, unit string) (host.UnitState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if st, ok := f.Unit[unit]; ok {
		return st, nil
	}
	return host.UnitState{Load: "not-found", Active: "inactive", Sub: "dead"}, nil
}

// StartUnit makes unit active.
func (f *Fake) StartUnit(_ context.Context, unit string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Unit[unit] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	return nil
}

// StopUnit makes unit inactive.
func (f *Fake) StopUnit(_ context.Context, unit string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if st, ok := f.Unit[unit]; ok {
		st.Active, st.Sub, st.Enable = "inactive", "dead", "disabled"
		f.Unit[unit] = st
	}
	return nil
}

// UnitLog answers one made-up line.
func (f *Fake) UnitLog(_ context.Context, unit string, _ int) ([]string, error) {
	return []string{"log of " + unit}, nil
}

// ListProcesses answers Proc.
func (f *Fake) ListProcesses() ([]host.Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]host.Process(nil), f.Proc...), nil
}

// Terminate removes the process from Proc, unless it is in Deaf.
func (f *Fake) Terminate(pid int) error {
	f.mu.Lock()
	f.Asked = append(f.Asked, pid)
	deaf := slices.Contains(f.Deaf, pid)
	f.mu.Unlock()
	if deaf {
		return nil
	}
	return f.Kill(pid)
}

// Kill removes the process from Proc.
func (f *Fake) Kill(pid int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.Proc {
		if p.PID == pid {
			f.Proc = append(f.Proc[:i], f.Proc[i+1:]...)
			return nil
		}
	}
	return nil
}

// ListSets answers Sets.
func (f *Fake) ListSets() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.Sets), nil
}

// DestroySet removes the set from Sets.
func (f *Fake) DestroySet(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Sets = slices.DeleteFunc(f.Sets, func(s string) bool { return s == name })
	return nil
}
