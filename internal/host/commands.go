package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// CommandError reports which program failed, how it ended, and the last part of its output.
type CommandError struct {
	Argv []string // program and arguments
	Code int      // exit code; -1 when it was killed or never ran
	Tail string   // last lines of its output; values of Cmd.Env are masked
	Err  error    // cause when it never ran or was ended by this process
}

// Error returns argv, the exit code and the last part of the output.
func (e *CommandError) Error() string {
	s := fmt.Sprintf("`%s`", strings.Join(e.Argv, " "))
	if e.Err != nil {
		s += ": " + e.Err.Error()
	} else {
		s += fmt.Sprintf(" exited with code %d", e.Code)
	}
	if e.Tail != "" {
		s += ": " + e.Tail
	}
	return s
}

// Killed reports whether the program was ended by a SIGKILL that this process did not send.
func (e *CommandError) Killed() bool {
	var exit *exec.ExitError
	if !errors.As(e.Err, &exit) {
		return false
	}
	st, ok := exit.Sys().(syscall.WaitStatus)
	return ok && st.Signaled() && st.Signal() == syscall.SIGKILL
}

// Unwrap returns the cause, for errors.Is and errors.As.
func (e *CommandError) Unwrap() error { return e.Err }

// execCommands implements Commands with os/exec.
type execCommands struct{}

// ErrTimedOut is why a command was ended that reached the Timeout of its Cmd.
var ErrTimedOut = errors.New("timed out")

var _ Commands = (*execCommands)(nil)

// commandEnviron returns the environment of every command. The user's own variables (KUBECONFIG,
// KOTS_…, LD_…, a locale) are left out, because they would change what a command does.
func commandEnviron(path string) []string {
	env := []string{"PATH=" + path, "LC_ALL=C"}
	for _, key := range []string{"HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+value)
		}
	}
	return env
}

func (*execCommands) Run(ctx context.Context, c Cmd) ([]byte, error) {
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("%w after %s", ErrTimedOut, c.Timeout))
		defer cancel()
	}
	path := searchPath(os.Getenv("PATH"))
	cmd := exec.CommandContext(ctx, findProgram(c.Argv[0], path), c.Argv[1:]...)
	cmd.Env = append(commandEnviron(path), c.Env...)
	cmd.Stdin = c.Stdin
	// The command gets its own process group, so that Ctrl-C on the terminal reaches only Plinth,
	// which decides when the child ends. The child must not outlive Plinth and write while the next
	// run does, so it gets a parent death signal. The kernel sends that signal when the thread that
	// started the child ends, so this goroutine stays on its thread until the child has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var stdout interface {
		io.Writer
		Bytes() []byte
	} = &bytes.Buffer{}
	if c.MaxOutput > 0 {
		stdout = &tailBuffer{max: c.MaxOutput}
	}
	tail := &tailBuffer{max: 2048}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(stdout, tail), io.Writer(tail)
	if c.Output != nil {
		shared := &lockedWriter{w: c.Output}
		cmd.Stdout, cmd.Stderr = io.MultiWriter(stdout, tail, shared), io.MultiWriter(tail, shared)
	}
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	if ctx.Err() != nil && cmd.Process != nil {
		// Processes that ignored SIGTERM must not keep running unnoticed. It is not an error if
		// none is left.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	out := &CommandError{Argv: c.Argv, Code: -1, Tail: maskValues(tail.String(), c.Env)}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		out.Err = context.Cause(ctx)
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		out.Code = exit.ExitCode()
	default:
		out.Err = err
	}
	return stdout.Bytes(), out
}

// maskValues replaces the values of the variables in env with asterisks.
func maskValues(s string, env []string) string {
	for _, kv := range env {
		if _, v, ok := strings.Cut(kv, "="); ok && len(v) >= 6 {
			s = strings.ReplaceAll(s, v, "******")
		}
	}
	return s
}

// searchPath returns the folders of path, followed by the standard ones that it lacks: `su` and cron
// leave out those for system administration, and `env -i` leaves none. Empty and relative entries,
// which mean the current folder, are dropped: this process is root.
func searchPath(path string) string {
	var dirs []string
	for _, dir := range append(filepath.SplitList(path), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin") {
		if filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, ":")
}

// findProgram returns the absolute path of the program name in one of the folders of path. It
// returns name itself if there is none, so that the error names it.
func findProgram(name, path string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for _, dir := range filepath.SplitList(path) {
		if full, err := exec.LookPath(filepath.Join(dir, name)); err == nil && filepath.IsAbs(full) {
			return full
		}
	}
	return name
}
