// Package host owns the only door to the machine: running commands, changing
// files, driving systemd units, ending processes. It refuses to know what the
// changes are for; every path it takes is below a root that tests can move.
package host

import (
	"context"
	"io"
	"io/fs"
	"time"
)

// Host is one machine. Its parts are small interfaces, so that a consumer
// asks only for what it uses and a test supplies only that.
type Host struct {
	Commands
	Files
	Streams
	Units
	Processes
	AddressSets
}

// Commands runs programs.
type Commands interface {
	// Run runs cmd to its end and returns its standard output. A program that
	// cannot be started, or ends with a code other than 0, is a *CommandError.
	Run(ctx context.Context, cmd Cmd) ([]byte, error)
}

// Files reads and changes the file system. Paths are absolute, seen from the
// host's own root.
type Files interface {
	// ReadFile returns the whole content of a file.
	ReadFile(path string) ([]byte, error)
	// Lstat describes path itself, not what a symbolic link points to.
	Lstat(path string) (fs.FileInfo, error)
	// ReadDir lists a folder, sorted by name.
	ReadDir(path string) ([]fs.DirEntry, error)
	// Write puts r's content at path: temporary file, fsync, rename, fsync of
	// the folder. Missing parent folders are made with mode 0755. perm is set
	// whatever the umask.
	Write(path string, r io.Reader, perm fs.FileMode) error
	// MkdirAll makes path and its parents; path itself gets perm, whatever
	// the umask, also when it exists already.
	MkdirAll(path string, perm fs.FileMode) error
	// RemoveAll removes path and all below it without following links and
	// without crossing into another mount; missing is no error.
	RemoveAll(path string) error
}

// Streams reads and places files that may be larger than memory.
type Streams interface {
	// OpenFile opens a file for reading.
	OpenFile(path string) (io.ReadCloser, error)
	// Place puts r's content at path, whole and synced, where there is nothing;
	// otherwise the error is fs.ErrExist. Until then the file has no name, so
	// nothing is left of a run that fails or is killed. Missing parent folders
	// are made with mode 0755. A file system may be unable to do so.
	Place(path string, r io.Reader, perm fs.FileMode) error
}

// AddressSets looks at and removes the kernel's sets of addresses (ipset), also
// on a host that lacks the tool of that name.
type AddressSets interface {
	// ListSets lists the names of all sets.
	ListSets() ([]string, error)
	// DestroySet removes a set that no rule refers to.
	DestroySet(name string) error
}

// Units drives systemd.
type Units interface {
	// UnitState reports a unit's state; a unit systemd does not know is
	// UnitState{Load: "not-found"}.
	UnitState(ctx context.Context, unit string) (UnitState, error)
	// StartUnit enables and starts unit, after a daemon-reload, without
	// waiting for it to become ready.
	StartUnit(ctx context.Context, unit string) error
	// StopUnit stops and disables unit and waits until it is stopped;
	// an unknown unit is no error.
	StopUnit(ctx context.Context, unit string) error
	// UnitLog returns the last n lines that unit logged, oldest first.
	UnitLog(ctx context.Context, unit string, n int) ([]string, error)
}

// Processes looks at and ends processes.
type Processes interface {
	// ListProcesses lists every process that can be seen.
	ListProcesses() ([]Process, error)
	// Terminate asks a process to end by itself (SIGTERM); one that is gone
	// is no error.
	Terminate(pid int) error
	// Kill ends a process at once (SIGKILL); one that is gone is no error.
	Kill(pid int) error
}

// Process is one running program.
type Process struct {
	PID  int      // process id
	PPID int      // parent's process id
	Exe  string   // path of its executable; empty when it cannot be told
	Args []string // command line
}

// UnitState is what systemd says of a unit, in systemd's own words.
type UnitState struct {
	Load   string // loaded, not-found, masked, …
	Active string // active, inactive, failed, activating, …
	Sub    string // running, dead, auto-restart, …
	Enable string // enabled, disabled, static, "" when there is no unit file
}

// Running reports whether the unit is up.
func (s UnitState) Running() bool { return s.Active == "active" }

// Begun reports whether the unit is up or on its way there, in what runs before
// its program for instance; not when systemd waits to try a failed one again.
func (s UnitState) Begun() bool {
	return s.Running() || s.Active == "activating" && s.Sub != "auto-restart"
}

// Cmd is one program run.
type Cmd struct {
	Argv    []string      // program and arguments; never holds a secret
	Env     []string      // added to the environment, KEY=VALUE; values are masked in errors and logs
	Stdin   io.Reader     // nil for none
	Output  io.Writer     // gets stdout and stderr as they come, besides what Run returns; nil for none
	Timeout time.Duration // 0 for none beyond the context's
	Look    bool          // promises that it changes nothing: a ReadOnly host runs only such commands
}
