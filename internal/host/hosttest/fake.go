// Package hosttest provides a strict fake of a host for tests. Its files are real, below a
// temporary root; its commands, units and processes are scripted. An unexpected command and an
// expected command that is never run both fail the test.
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
	Root           string                    // folder that is the / of the fake
	OnRestart      func(unit string) error   // called by RestartUnit; nil for no effect
	Units          map[string]host.UnitState // state by unit name; other units are not-found
	Processes      []host.Process            // processes that ListProcesses returns; Kill removes one
	IgnoresSIGTERM []int                     // pids that Terminate does not end
	Terminated     []int                     // pids that Terminate was called with, in order
	AddressSets    []string                  // names that ListSets returns; DestroySet removes one

	t        testing.TB
	mu       sync.Mutex
	expect   []*Expectation
	Commands []string // every command that was run, in order
	Restarts []string // every unit that was restarted, in order
}

// Expectation is one command that a test expects.
type Expectation struct {
	prefix string
	out    string
	err    error
	do     func(host.Cmd)
	times  int // how often it may still be run; -1 for any number
	met    bool
}

// New returns a fake that fails t at its end if an expected command was never run.
func New(t testing.TB) *Fake {
	f := &Fake{Root: t.TempDir(), Units: map[string]host.UnitState{}, t: t}
	t.Cleanup(func() {
		f.mu.Lock() // a command that hangs may still run
		defer f.mu.Unlock()
		for _, e := range f.expect {
			if !e.met {
				t.Errorf("expected command was never run: %s", e.prefix)
			}
		}
	})
	return f
}

// Host returns the fake as a host.Host.
func (f *Fake) Host() host.Host {
	local := host.Local(f.Root)
	return host.Host{Commands: f, Files: local.Files, Links: local.Links, Streams: local.Streams, Units: f, Processes: f, AddressSets: f}
}

// Expect expects one command whose argv, joined by spaces, begins with prefix.
func (f *Fake) Expect(prefix string) *Expectation {
	e := &Expectation{prefix: prefix, times: 1}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expect = append(f.expect, e)
	return e
}

// Return sets the output of the command and its error.
func (e *Expectation) Return(out string, err error) *Expectation {
	e.out, e.err = out, err
	return e
}

// Do calls fn when the command is run, for its effect on the fake's files.
func (e *Expectation) Do(fn func(host.Cmd)) *Expectation { e.do = fn; return e }

// AnyTimes lets the command be run any number of times, but at least once.
func (e *Expectation) AnyTimes() *Expectation { e.times = -1; return e }

// Run returns the scripted result of cmd. An unexpected command fails the test.
func (f *Fake) Run(_ context.Context, cmd host.Cmd) ([]byte, error) {
	line := strings.Join(cmd.Argv, " ")
	f.mu.Lock()
	f.Commands = append(f.Commands, line)
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

// UnitState returns the state of unit in Units.
func (f *Fake) UnitState(_ context.Context, unit string) (host.UnitState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if st, ok := f.Units[unit]; ok {
		return st, nil
	}
	return host.UnitState{Load: "not-found", Active: "inactive", Sub: "dead"}, nil
}

// StartUnit makes unit active and enabled.
func (f *Fake) StartUnit(_ context.Context, unit string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Units[unit] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	return nil
}

// StopUnit makes unit inactive and disabled.
func (f *Fake) StopUnit(_ context.Context, unit string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if st, ok := f.Units[unit]; ok {
		st.Active, st.Sub, st.Enable = "inactive", "dead", "disabled"
		f.Units[unit] = st
	}
	return nil
}

// RestartUnit records the restart of unit and calls OnRestart.
func (f *Fake) RestartUnit(_ context.Context, unit string) error {
	f.mu.Lock()
	f.Restarts = append(f.Restarts, unit)
	f.mu.Unlock()
	if f.OnRestart == nil {
		return nil
	}
	return f.OnRestart(unit)
}

// UnitLog returns one invented line.
func (f *Fake) UnitLog(_ context.Context, unit string, _ int) ([]string, error) {
	return []string{"log of " + unit}, nil
}

// ListProcesses returns a copy of Processes.
func (f *Fake) ListProcesses() ([]host.Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]host.Process(nil), f.Processes...), nil
}

// Terminate removes the process from Processes unless its pid is in IgnoresSIGTERM.
func (f *Fake) Terminate(pid int) error {
	f.mu.Lock()
	f.Terminated = append(f.Terminated, pid)
	ignored := slices.Contains(f.IgnoresSIGTERM, pid)
	f.mu.Unlock()
	if ignored {
		return nil
	}
	return f.Kill(pid)
}

// Kill removes the process from Processes.
func (f *Fake) Kill(pid int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.Processes {
		if p.PID == pid {
			f.Processes = append(f.Processes[:i], f.Processes[i+1:]...)
			return nil
		}
	}
	return nil
}

// ListSets returns a copy of AddressSets.
func (f *Fake) ListSets() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.AddressSets), nil
}

// DestroySet removes the set from AddressSets.
func (f *Fake) DestroySet(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.AddressSets = slices.DeleteFunc(f.AddressSets, func(s string) bool { return s == name })
	return nil
}
