// Package kots owns the admin console and the applications in it: it drives the
// pinned kots CLI, checks beforehand what KOTS would find out late, and puts
// KOTS's words into plain ones. It refuses to do KOTS's work: what the CLI or
// the console can do, it asks them to do.
package kots

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/kube"
)

// Binary is the pinned kots CLI on a host; its name makes it a kubectl plug-in.
const Binary = "/usr/local/bin/kubectl-kots"

// Machine is what the kots CLI needs of the host.
type Machine interface {
	host.Commands
	MkdirAll(path string, perm fs.FileMode) error
	RemoveAll(path string) error
}

// KOTS drives one console.
type KOTS struct {
	Machine    Machine
	Kube       *kube.Client
	CLI        string // path of the pinned kots executable
	Kubeconfig string // path
	Home       string // private folder: HOME and TMPDIR of the CLI, emptied after each run
	Namespace  string // of the console
	Airgap     bool   // the console and the CLI must not look for the internet
	Proxy      Proxy  // the way out when not
}

// Proxy is the way to the internet for the console and the CLI; its values may
// hold credentials and are handed over in the environment only.
type Proxy struct{ HTTP, HTTPS, No string }

// run runs the CLI, in the console's namespace, and reports its lines.
func (k *KOTS) run(ctx context.Context, env []string, report func(string, int64, int64), args ...string) ([]byte, error) {
	tmp := path.Join(k.Home, "tmp")
	for _, dir := range []string{k.Home, tmp} {
		if err := k.Machine.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	// Images of a bundle are unpacked there: nothing may stay after a failure.
	defer func() { _ = k.Machine.RemoveAll(tmp) }() // else the next run, or reset, removes it
	heard := &progress{report: report}
	out, err := k.Machine.Run(ctx, host.Cmd{
		Argv:   append([]string{k.CLI}, append(args, "--namespace", k.Namespace)...),
		Env:    append(k.environment(tmp), env...),
		Output: heard,
	})
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return out, context.Cause(ctx)
	case heard.said() == "":
		return out, err
	}
	return out, errors.New(heard.said())
}

// environment keeps the CLI to this cluster: the host's own proxy settings
// would send even calls to the API server elsewhere.
func (k *KOTS) environment(tmp string) []string {
	env := []string{
		"KUBECONFIG=" + k.Kubeconfig, "HOME=" + k.Home, "TMPDIR=" + tmp,
		"HTTP_PROXY=", "HTTPS_PROXY=", "http_proxy=", "https_proxy=", "NO_PROXY=", "no_proxy=",
	}
	if !k.Airgap {
		env = append(env, "HTTP_PROXY="+k.Proxy.HTTP, "HTTPS_PROXY="+k.Proxy.HTTPS, "NO_PROXY="+k.Proxy.No)
	}
	return env
}

// progress hands each new line of the CLI's output to report, without the
// marks and movements meant for a terminal, and remembers what went wrong.
type progress struct {
	report func(message string, bytes, total int64) // may be nil
	rest   string
	last   [2]string // the newest line last
	fault  string    // what followed "Error: "; the CLI's help may come after it
}

// Write takes a piece of output; it never fails.
func (p *progress) Write(b []byte) (int, error) {
	p.rest += strings.ReplaceAll(string(b), "\r", "\n")
	for {
		line, rest, found := strings.Cut(p.rest, "\n")
		if !found {
			return len(b), nil
		}
		p.rest = rest
		p.hear(plain(line))
	}
}

func (p *progress) hear(line string) {
	if line == "" || line == p.last[1] {
		return
	}
	p.last = [2]string{p.last[1], line}
	if fault, found := strings.CutPrefix(line, "Error: "); found && p.fault == "" {
		p.fault = fault
	}
	if p.report != nil {
		p.report(line, 0, 0)
	}
}

// said is the CLI's own word on why it failed; KOTS's message may go on in the
// next line.
func (p *progress) said() string {
	switch {
	case p.fault != "" && p.last[0] == "Error: "+p.fault:
		return p.fault + " " + p.last[1]
	case p.fault != "":
		return p.fault
	}
	return strings.TrimPrefix(p.last[0]+"; "+p.last[1], "; ")
}

// plain strips escape sequences, bullets and ticks from a line of the CLI.
func plain(line string) string {
	return strings.Trim(unmarked(line), " \t•✓✗⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
}

// unmarked strips a terminal's escape sequences.
func unmarked(text string) string {
	return regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`).ReplaceAllString(text, "")
}

// timeout is how the CLI wants a duration.
func timeout(d time.Duration) string { return d.Round(time.Second).String() }
