// Package host reads and changes the machine: it runs commands, writes files, drives systemd units
// and ends processes. It is the only package that does so, and all its paths are below a root that
// tests can move.
package host

import (
	"context"
	"io"
	"io/fs"
	"time"
)

// Host is one machine. Its parts are small interfaces, so that a consumer requires only what it
// uses and a test supplies only that.
type Host struct {
	Commands
	Files
	Links
	Streams
	Units
	Processes
	AddressSets
}

// Commands runs programs.
type Commands interface {
	// Run runs cmd until it ends and returns its standard output. The error is a *CommandError if
	// the program cannot be started or exits with a code other than 0.
	Run(ctx context.Context, cmd Cmd) ([]byte, error)
}

// Files reads and changes the file system. Paths are absolute, as seen from the host's own root.
type Files interface {
	// ReadFile returns the whole content of a file.
	ReadFile(path string) ([]byte, error)
	// Lstat returns information about path itself. It does not follow a symbolic link.
	Lstat(path string) (fs.FileInfo, error)
	// ReadDir returns the entries of a folder, sorted by name.
	ReadDir(path string) ([]fs.DirEntry, error)
	// Write atomically replaces the file at path with the content of r: temporary file, fsync,
	// rename, fsync of the folder. Missing parent folders are created with mode 0755. The file gets
	// exactly the mode perm, regardless of the umask.
	Write(path string, r io.Reader, perm fs.FileMode) error
	// MkdirAll creates path and its parents. path itself gets exactly the mode perm, regardless of
	// the umask, even if it exists already.
	MkdirAll(path string, perm fs.FileMode) error
	// RemoveAll removes path and everything below it, without following links and without crossing
	// into another mount. A missing path is not an error.
	RemoveAll(path string) error
}

// Links creates symbolic links.
type Links interface {
	// Symlink atomically replaces the file or link at path with a symbolic link to target: temporary
	// link, rename, fsync of the folder. target is stored as it is; a relative one is below the
	// folder of path. Missing parent folders are created with mode 0755.
	Symlink(target, path string) error
}

// Streams reads and writes files that may be larger than memory.
type Streams interface {
	// OpenFile opens a file for reading. It refuses a pipe and a socket, which have no end.
	OpenFile(path string) (io.ReadCloser, error)
	// Place creates the file path with the content of r, complete and synced. The error is
	// fs.ErrExist if path exists. The file has no name until it is complete, so that a run that
	// fails or is killed leaves nothing. Missing parent folders are created with mode 0755. The
	// error is errors.ErrUnsupported, and r has not been read, if the file system has no such files.
	Place(path string, r io.Reader, perm fs.FileMode) error
}

// AddressSets lists and removes the kernel's sets of addresses (ipset), also on a host without the
// ipset tool.
type AddressSets interface {
	// ListSets returns the names of all sets.
	ListSets() ([]string, error)
	// DestroySet removes a set that no rule refers to.
	DestroySet(name string) error
}

// Units drives systemd.
type Units interface {
	// UnitState returns a unit's state. The state of a unit that systemd does not know is
	// UnitState{Load: "not-found"}.
	UnitState(ctx context.Context, unit string) (UnitState, error)
	// StartUnit enables and starts unit, after a daemon-reload. It does not wait until the unit is
	// ready.
	StartUnit(ctx context.Context, unit string) error
	// StopUnit stops and disables unit and waits until it has stopped. An unknown unit is not an
	// error.
	StopUnit(ctx context.Context, unit string) error
	// RestartUnit stops and starts unit, which stays enabled or disabled, and waits until it has started. It does
	// not wait until the unit is ready.
	RestartUnit(ctx context.Context, unit string) error
	// UnitLog returns the last n lines that unit logged, oldest first.
	UnitLog(ctx context.Context, unit string, n int) ([]string, error)
}

// Processes lists and ends processes.
type Processes interface {
	// ListProcesses returns all processes that are visible.
	ListProcesses() ([]Process, error)
	// Terminate asks a process to end (SIGTERM). A process that has ended is not an error.
	Terminate(pid int) error
	// Kill ends a process immediately (SIGKILL). A process that has ended is not an error.
	Kill(pid int) error
}

// Process is one running program.
type Process struct {
	PID  int      // process id
	PPID int      // process id of the parent
	Exe  string   // path of its executable; empty if unknown
	Args []string // command line
}

// UnitState is the state of a unit, in systemd's own terms.
type UnitState struct {
	Load   string // loaded, not-found, masked, …
	Active string // active, inactive, failed, activating, …
	Sub    string // running, dead, auto-restart, …
	Enable string // enabled, disabled, static; "" if there is not a unit file
}

// Running reports whether the unit is active.
func (s UnitState) Running() bool { return s.Active == "active" }

// StartingOrRunning reports whether the unit is active or being activated, for example in its
// ExecStartPre. It returns false while systemd waits to restart a failed unit.
func (s UnitState) StartingOrRunning() bool {
	return s.Running() || s.Active == "activating" && s.Sub != "auto-restart"
}

// Cmd is one command to run.
type Cmd struct {
	Argv      []string      // program and arguments; never contains a secret
	Env       []string      // added to the environment, KEY=VALUE; values are masked in errors and logs
	Stdin     io.Reader     // nil for none
	Output    io.Writer     // receives stdout and stderr as they are written, in addition to what Run returns; nil for none
	Timeout   time.Duration // 0 for none other than the context's
	ReadOnly  bool          // the command changes nothing: a ReadOnly host runs only such commands
	MaxOutput int           // Run returns and keeps in memory only the last so many bytes of stdout; 0 for all
}
