// Package kots installs the KOTS admin console and the applications in it
// through the pinned kots CLI, checks application bundles and licenses before
// KOTS does, and translates the errors of KOTS.
package kots

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/kube"
)

// BinaryPath is the path of the pinned kots CLI on a host; its name makes it a
// kubectl plug-in.
const BinaryPath = "/usr/local/bin/kubectl-kots"

// Machine is the part of the host that the kots CLI needs.
type Machine interface {
	host.Commands
	MkdirAll(path string, perm fs.FileMode) error
	RemoveAll(path string) error
}

// Client manages one console.
type Client struct {
	Machine    Machine
	Kube       *kube.Client
	CLI        string    // path of the pinned kots executable
	Kubeconfig string    // path of the kubeconfig
	Home       string    // private folder: HOME and TMPDIR of the CLI, emptied after each run
	Namespace  string    // namespace of the console
	Airgap     bool      // the console must not use the internet
	Proxy      Proxy     // outgoing proxy of the CLI and, if Airgap is false, of the console
	AnyNode    bool      // the console may run on every node, because the cluster is not one of Plinth
	Registry   *Registry // outside of the cluster; nil for the one that KOTS finds in the cluster
	Environ    []string  // more variables of the CLI, for a program in the kubeconfig; those of the CLI itself replace them

	databasePort string // of the console's database; "" for that of KOTS
}

// Registry is a registry outside of the cluster that has the images of the console, and gets those of applications.
type Registry struct {
	Address            string // host, and a path in it or none: harbor.example.com/my-app
	Username, Password string // "" for none
}

// Image returns the reference under which KOTS looks for one of its images in the registry: it keeps the last element of
// the repository and the tag (KOTS 1.131.2, pkg/kotsadm/version/kotsadm_version.go).
func (r Registry) Image(ref string) string { return r.Address + "/" + path.Base(ref) }

// registryArgs returns the arguments and the environment that make the CLI use Client.Registry.
func (k *Client) registryArgs() (args, env []string) {
	if k.Registry == nil {
		return nil, nil
	}
	args = []string{"--kotsadm-registry", k.Registry.Address}
	if k.Registry.Username != "" {
		args, env = append(args, "--registry-username", k.Registry.Username), []string{"KOTS_REGISTRY_PASSWORD=" + k.Registry.Password}
	}
	return args, env
}

// Proxy is the outgoing proxy of the console and the CLI. Its values may
// contain credentials and are passed in the environment only.
type Proxy struct{ HTTP, HTTPS, No string }

// runCLI runs the CLI in the console's namespace, reports its lines and returns
// its output.
func (k *Client) runCLI(ctx context.Context, env []string, report func(string, int64, int64), args ...string) ([]byte, error) {
	tmp := path.Join(k.Home, "tmp")
	for _, dir := range []string{k.Home, tmp} {
		if err := k.Machine.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	// The CLI unpacks the images of a bundle there: remove them also after a failure.
	defer func() { _ = k.Machine.RemoveAll(tmp) }() // on an error the next run, or reset, removes it
	output := &cliOutput{report: report}
	out, err := k.Machine.Run(ctx, host.Cmd{
		Argv:   append([]string{k.CLI}, append(args, "--namespace", k.Namespace)...),
		Env:    append(k.cliEnvironment(tmp), env...),
		Output: output,
	})
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return out, context.Cause(ctx)
	case output.errorText() == "":
		return out, err
	}
	return out, errors.New(output.errorText())
}

// cliEnvironment returns the environment of the CLI. It clears the proxy
// settings of the host, which would redirect even calls to the API server.
// The library that pushes images keeps a cache in /var/lib/containers for
// root, where a reset would leave it, and in the user's folder for others
// (go.podman.io/image v5, pkg/blobinfocache).
func (k *Client) cliEnvironment(tmp string) []string {
	return append(slices.Clone(k.Environ),
		"KUBECONFIG="+k.Kubeconfig, "HOME="+k.Home, "TMPDIR="+tmp, "XDG_DATA_HOME="+tmp, "_CONTAINERS_ROOTLESS_UID=65534", "http_proxy=", "https_proxy=", "no_proxy=",
		"HTTP_PROXY="+k.Proxy.HTTP, "HTTPS_PROXY="+k.Proxy.HTTPS, "NO_PROXY="+k.Proxy.No,
	)
}

// cliOutput passes each new line of the CLI's output to report, without escape
// sequences, and remembers the lines that explain a failure.
type cliOutput struct {
	report func(message string, bytes, total int64) // may be nil
	rest   string
	last   [2]string // the two newest lines, the newest last
	fault  string    // text after "Error: "; the CLI's help may follow it
	checks []string  // the lines after preflightsNotPassed; nil without one
}

// preflightsNotPassed is in the line before the results of an application's preflight checks, if one of them fails or warns
// (cmd/kots/cli/install.go, v1.131.2).
const preflightsNotPassed = "There are preflight check "

// Write adds a part of the output; it never fails.
func (p *cliOutput) Write(b []byte) (int, error) {
	p.rest += strings.ReplaceAll(string(b), "\r", "\n")
	for {
		line, rest, found := strings.Cut(p.rest, "\n")
		if !found {
			return len(b), nil
		}
		p.rest = rest
		p.addLine(stripMarks(line))
	}
}

func (p *cliOutput) addLine(line string) {
	if line == "" || line == p.last[1] {
		return
	}
	p.last = [2]string{p.last[1], line}
	switch {
	case p.checks != nil:
		p.checks = append(p.checks, line)
	case strings.HasPrefix(line, preflightsNotPassed):
		p.checks = []string{}
	}
	if fault, found := strings.CutPrefix(line, "Error: "); found && p.fault == "" {
		p.fault = fault
	}
	if p.report != nil {
		p.report(line, 0, 0)
	}
}

// errorText returns the CLI's own explanation of its failure. A message of KOTS
// may continue in the next line.
func (p *cliOutput) errorText() string {
	switch {
	case p.checks != nil:
		return "preflight checks: " + strings.Join(failedChecks(p.checks), "; ")
	case p.fault != "" && p.last[0] == "Error: "+p.fault:
		return p.fault + " " + p.last[1]
	case p.fault != "":
		return p.fault
	}
	return strings.TrimPrefix(p.last[0]+"; "+p.last[1], "; ")
}

// failedChecks returns the preflight checks of an application that do not pass, from the table that the CLI prints: state, title
// and message in columns of at least two spaces (pkg/print/preflight.go, v1.131.2). A message may continue in the next line.
func failedChecks(lines []string) (failed []string) {
	passes, gap := true, regexp.MustCompile(` {2,}`)
	for _, line := range lines {
		columns := gap.Split(line, 3)
		switch state := columns[0]; {
		case state == "STATE", state == "PASS":
			passes = true
		case len(columns) == 3 && slices.Contains([]string{"FAIL", "WARN", "UNKNOWN"}, state):
			passes = false
			failed = append(failed, strings.ToLower(state)+": "+columns[1]+": "+columns[2])
		case strings.HasPrefix(line, "- "): // an error of a collector
			passes = false
			failed = append(failed, strings.TrimPrefix(line, "- "))
		case !passes:
			failed[len(failed)-1] += " " + line
		}
	}
	return failed
}

// stripMarks removes escape sequences, bullets and ticks from a line of the
// CLI.
func stripMarks(line string) string {
	return strings.Trim(stripEscapes(line), " \t•✓✗⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
}

// stripEscapes removes the escape sequences of a terminal.
func stripEscapes(text string) string {
	return regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`).ReplaceAllString(text, "")
}

// formatTimeout returns a duration in the format of the CLI.
func formatTimeout(d time.Duration) string { return d.Round(time.Second).String() }
