package host

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// ReadOnly returns h without the ability to change it: every change returns an error, and only
// commands marked ReadOnly run. Plans and preflights use it, so that a Check that tries to change
// something fails.
func ReadOnly(h Host) Host {
	return Host{
		Commands:    readOnlyCommands{h.Commands},
		Files:       readOnlyFiles{h.Files},
		Links:       readOnlyLinks{},
		Streams:     readOnlyStreams{h.Streams},
		AddressSets: readOnlySets{h.AddressSets},
		Units:       readOnlyUnits{h.Units},
		Processes:   readOnlyProcesses{h.Processes},
	}
}

type readOnlyCommands struct{ Commands }

func (c readOnlyCommands) Run(ctx context.Context, cmd Cmd) ([]byte, error) {
	if !cmd.ReadOnly {
		return nil, readOnlyError("run " + strings.Join(cmd.Argv, " "))
	}
	return c.Commands.Run(ctx, cmd)
}

type readOnlyFiles struct{ Files }

func (readOnlyFiles) Write(path string, _ io.Reader, _ fs.FileMode) error {
	return readOnlyError("write " + path)
}
func (readOnlyFiles) MkdirAll(path string, _ fs.FileMode) error {
	return readOnlyError("create " + path)
}
func (readOnlyFiles) RemoveAll(path string) error { return readOnlyError("remove " + path) }

type readOnlyLinks struct{}

func (readOnlyLinks) Symlink(_, path string) error { return readOnlyError("link " + path) }

type readOnlyStreams struct{ Streams }

func (readOnlyStreams) Place(path string, _ io.Reader, _ fs.FileMode) error {
	return readOnlyError("write " + path)
}

type readOnlyUnits struct{ Units }

func (readOnlyUnits) StartUnit(_ context.Context, unit string) error {
	return readOnlyError("start " + unit)
}
func (readOnlyUnits) StopUnit(_ context.Context, unit string) error {
	return readOnlyError("stop " + unit)
}
func (readOnlyUnits) RestartUnit(_ context.Context, unit string) error {
	return readOnlyError("restart " + unit)
}

type readOnlyProcesses struct{ Processes }

func (readOnlyProcesses) Terminate(pid int) error {
	return readOnlyError(fmt.Sprintf("end process %d", pid))
}
func (readOnlyProcesses) Kill(pid int) error {
	return readOnlyError(fmt.Sprintf("kill process %d", pid))
}

type readOnlySets struct{ AddressSets }

func (readOnlySets) DestroySet(name string) error { return readOnlyError("remove address set " + name) }

// readOnlyError returns the error for the change what, such as "write /etc/hosts".
func readOnlyError(what string) error { return fmt.Errorf("cannot %s: this run is read-only", what) }
