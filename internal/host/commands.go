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

// CommandError says which program failed, how, and the end of what it said.
type CommandError struct {
	Argv []string // program and arguments
	Code int      // exit code; -1 when it was killed or never ran
	Tail string   // last lines of its output, values of Cmd.Env masked
	Err  error    // cause when it never ran or was ended from here
}

// Error gives argv, exit code and the end of the output.
func (e *CommandError) Error() string {
	s := fmt.Sprintf("`%s`", strings.Join(e.Argv, " "))
	if e.Err != nil {
		s += ": " + e.Err.Error()
	} else {
		s += fmt.Sprintf(" ended with code %d", e.Code)
	}
	if e.Tail != "" {
		s += ": " + e.Tail
	}
	return s
}

// Killed reports whether a SIGKILL that did not come from here ended it.
func (e *CommandError) Killed() bool {
	var exit *exec.ExitError
	if !errors.As(e.Err, &exit) {
		return false
	}
	st, ok := exit.Sys().(syscall.WaitStatus)
	return ok && st.Signaled() && st.Signal() == syscall.SIGKILL
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *CommandError) Unwrap() error { return e.Err }

// execCommands is Commands by os/exec.
type execCommands struct{}

var _ Commands = (*execCommands)(nil)

// environ is what every command finds in its environment. The user's own
// variables (KUBECONFIG, KOTS_…, LD_…, a locale) would change what it does.
func environ(path string) []string {
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
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("no end after %s", c.Timeout))
		defer cancel()
	}
	path := searchPath(os.Getenv("PATH"))
	cmd := exec.CommandContext(ctx, find(c.Argv[0], path), c.Argv[1:]...)
	cmd.Env = append(environ(path), c.Env...)
	cmd.Stdin = c.Stdin
	// A group of its own: Ctrl-C on the terminal reaches Plinth only, which
	// decides when the child ends. But it must not outlive Plinth, and write
	// while the next run does. The kernel takes the end of the thread that
	// started it for that end: this one stays until then.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var stdout bytes.Buffer
	tail := &tailBuffer{max: 2048}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&stdout, tail), io.Writer(tail)
	if c.Output != nil {
		shared := &lockedWriter{w: c.Output}
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&stdout, tail, shared), io.MultiWriter(tail, shared)
	}
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	if ctx.Err() != nil && cmd.Process != nil {
		// What was deaf to SIGTERM must not go on unseen; nobody left is no error.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	out := &CommandError{Argv: c.Argv, Code: -1, Tail: mask(tail.String(), c.Env)}
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

// mask replaces the values that were handed over in env.
func mask(s string, env []string) string {
	for _, kv := range env {
		if _, v, ok := strings.Cut(kv, "="); ok && len(v) >= 6 {
			s = strings.ReplaceAll(s, v, "******")
		}
	}
	return s
}

// searchPath is PATH with the administrator's folders, which `su` and cron
// leave out.
func searchPath(path string) string {
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if !slices.Contains(filepath.SplitList(path), dir) {
			path += ":" + dir
		}
	}
	return path
}

// find is the program called name in one of path's folders; name itself when
// there is none, for the error to name it.
func find(name, path string) string {
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
