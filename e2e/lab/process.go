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

// Cmd says how to run a command in a host: as root, in /root, with root's
// login environment and nothing of the test's.
type Cmd struct {
	Args  []string
	Stdin io.Reader // nil is empty
	TTY   bool      // on a terminal of the host's; stdout and stderr are then one stream
}

// Process is a command that runs in a host.
type Process struct {
	cmd            *exec.Cmd
	stdout, stderr stream
	done           chan struct{} // closed at its end
}

// Run runs a command to its end. The code is that of the command, 128 plus
// the number of the signal that ended it.
func (h *Host) Run(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	return h.Start(ctx, Cmd{Args: args}).Wait()
}

// Must runs a command that has to succeed and gives its output, trimmed.
func (h *Host) Must(ctx context.Context, args ...string) string {
	h.t.Helper()
	stdout, stderr, code := h.Run(ctx, args...)
	if code != 0 {
		h.t.Fatalf("in %s: %s: exit %d\n%s%s", h.Name, strings.Join(args, " "), code, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// Start runs a command in the background. It is killed when ctx ends.
func (h *Host) Start(ctx context.Context, c Cmd) *Process {
	h.t.Helper()
	args := []string{"exec", h.Name}
	if c.TTY {
		args = append(args, "-t")
	}
	p := &Process{done: make(chan struct{})}
	p.cmd = h.command(ctx, append(append(args, "--"), c.Args...)...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = c.Stdin, &p.stdout, &p.stderr
	// The end of ctx takes the whole process group, also before the lab has set up
	// that its command dies with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	p.cmd.WaitDelay = 2 * time.Second // for what a command leaves behind on its stdout
	if err := p.cmd.Start(); err != nil {
		h.t.Fatalf("lab exec: %v", err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended stands in its state
		close(p.done)
	}()
	return p
}

// Wait waits for the end of the command. Code is -1 when ctx ended first.
func (p *Process) Wait() (stdout, stderr string, code int) {
	<-p.done
	return p.stdout.String(), p.stderr.String(), p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal that the command may handle, such as os.Interrupt.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the command at once, as kill -9 does. Processes that it started stay.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// Output is what the command wrote to stdout and stderr up to now.
func (p *Process) Output() (stdout, stderr string) { return p.stdout.String(), p.stderr.String() }

// WaitFor waits until stdout or stderr contains text; false if the command
// ended, or ctx did, without it.
func (p *Process) WaitFor(ctx context.Context, text string) bool {
	for {
		out, outMore := p.stdout.look()
		errs, errMore := p.stderr.look()
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

// stream is a buffer that tells its readers when there is more.
type stream struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // closed by the next write; nil when nobody looks
}

func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	n, err := s.buf.Write(b)
	s.mu.Unlock()
	s.wake()
	return n, err
}

func (s *stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more != nil {
		close(s.more)
		s.more = nil
	}
}

// look gives the content and a channel that is closed when there is more.
func (s *stream) look() (string, <-chan struct{}) {
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
