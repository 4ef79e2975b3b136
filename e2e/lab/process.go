package lab

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Cmd describes a command in a host. It runs as root, in /root, with root's login
// environment and nothing of the test's environment.
type Cmd struct {
	Args  []string
	Stdin io.Reader // nil is empty
	TTY   bool      // on a terminal of the host; stdout and stderr are then one stream
}

// Process is a running command in a host.
type Process struct {
	cmd            *exec.Cmd
	stdout, stderr stream
	done           chan struct{} // closed when the command has ended
}

// Run runs a command and waits for it. It returns the command's exit code, or 128
// plus the number of the signal that ended it.
func (h *Host) Run(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	return h.Start(ctx, Cmd{Args: args}).Wait()
}

// MustRun runs a command that must succeed and returns its stdout, trimmed.
func (h *Host) MustRun(ctx context.Context, args ...string) string {
	h.t.Helper()
	stdout, stderr, code := h.Run(ctx, args...)
	if code != 0 {
		h.t.Fatalf("in %s: %s: exit %d\n%s%s", h.Name, strings.Join(args, " "), code, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// Start starts a command in the background. It is killed when ctx ends.
func (h *Host) Start(ctx context.Context, c Cmd) *Process {
	h.t.Helper()
	args := []string{"exec", h.Name}
	if c.TTY {
		args = append(args, "-t")
	}
	p := &Process{done: make(chan struct{})}
	p.cmd = h.toolCommand(ctx, append(append(args, "--"), c.Args...)...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = c.Stdin, &p.stdout, &p.stderr
	// The end of ctx kills the whole process group, even before the lab tool has
	// arranged that its command dies with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	p.cmd.WaitDelay = 2 * time.Second // for processes that keep the command's stdout open
	if err := p.cmd.Start(); err != nil {
		h.t.Fatalf("lab exec: %v", err)
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState has the result
		close(p.done)
	}()
	return p
}

// Wait waits for the command. It returns the code -1 if ctx ended first.
func (p *Process) Wait() (stdout, stderr string, code int) {
	<-p.done
	return p.stdout.String(), p.stderr.String(), p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal that the command can handle, such as os.Interrupt.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill kills the command, as kill -9 does. Processes that it started keep running.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it fails if the command has already ended
	<-p.done
}

// Output returns what the command has written to stdout and stderr so far.
func (p *Process) Output() (stdout, stderr string) { return p.stdout.String(), p.stderr.String() }

// WaitFor waits until stdout or stderr contains text. It returns false if the
// command or ctx ends before that.
func (p *Process) WaitFor(ctx context.Context, text string) bool {
	for {
		out, outMore := p.stdout.snapshot()
		errs, errMore := p.stderr.snapshot()
		if strings.Contains(out, text) || strings.Contains(errs, text) {
			return true
		}
		select {
		case <-outMore:
		case <-errMore:
		case <-p.done:
			out, errs = p.Output()
			return strings.Contains(out+"\n"+errs, text)
		case <-ctx.Done():
			return false
		}
	}
}

// stream is a buffer that notifies its readers of new content.
type stream struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // closed by the next write; nil without readers
}

func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	n, err := s.buf.Write(b)
	s.mu.Unlock()
	s.notifyReaders()
	return n, err
}

func (s *stream) notifyReaders() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more != nil {
		close(s.more)
		s.more = nil
	}
}

// snapshot returns the content and a channel that is closed at the next write.
func (s *stream) snapshot() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more == nil {
		s.more = make(chan struct{})
	}
	return s.buf.String(), s.more
}

func (s *stream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}
