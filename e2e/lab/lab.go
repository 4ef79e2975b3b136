// Package lab owns the throw-away hosts of the e2e tests: it drives
// scripts/lab/lab and says what a host looks like before and after a test.
// It refuses to skip: a test that asks for a host gets one or fails. Each test
// has a lab of its own, so tests neither see nor disturb each other.
package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// KeepEnv names the environment variable that, when set, leaves the hosts of
// a test running after it, to be looked at with `scripts/lab/lab shell`.
const KeepEnv = "PLINTH_E2E_KEEP"

// Host is one running throw-away host. Its methods fail the test when the lab
// itself does not work; what a command in the host does is the caller's to judge.
type Host struct {
	Name string
	lab  string // name of the test's lab
	tool string // path of scripts/lab/lab
	t    testing.TB
}

// Option is a flag of `lab up`.
type Option []string

// Disk gives the host a disk of that size, such as "2G"; the default is 40G, sparse.
func Disk(size string) Option { return Option{"--disk", size} }

// Memory gives the host that much memory, such as "1G": /proc/meminfo shows it
// and a cgroup enforces it. The default is the machine's.
func Memory(size string) Option { return Option{"--memory", size} }

// CPUs lets the host use only the first n processors of the machine.
func CPUs(n int) Option { return Option{"--cpus", fmt.Sprint(n)} }

// DNS is the address in the host's /etc/resolv.conf. The default refuses at
// once; one outside the lab, such as 192.0.2.53, never answers.
func DNS(address string) Option { return Option{"--dns", address} }

// Up boots a fresh host called name in t's own lab and removes it when t ends.
// One left over from an earlier, killed run of the same test is removed first.
func Up(t testing.TB, name string, opts ...Option) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("lab hosts need root")
	}
	h := &Host{Name: name, lab: labName(t), tool: tool(t), t: t}
	h.do("down", name)
	t.Cleanup(func() {
		if os.Getenv(KeepEnv) == "" {
			h.do("down", name)
			return
		}
		t.Logf("kept: %s --lab %s shell %s", h.tool, h.lab, name)
	})
	args := []string{"up", name}
	for _, o := range opts {
		args = append(args, o...)
	}
	t.Log(h.do(args...))
	return h
}

// For is h for a subtest: what goes wrong with the host fails that test.
func (h *Host) For(t testing.TB) *Host {
	sub := *h
	sub.t = t
	return &sub
}

// IP is the host's address, reachable from the machine.
func (h *Host) IP() string { return h.do("ip", h.Name) }

// Copy puts a file or folder of the machine into the host. Into an existing
// folder it goes under its own name.
func (h *Host) Copy(src, dst string) { h.t.Helper(); h.do("cp", src, h.Name+":"+dst) }

// Fetch puts a file or folder of the host onto the machine, as Copy does.
func (h *Host) Fetch(src, dst string) { h.t.Helper(); h.do("cp", h.Name+":"+src, dst) }

// Snapshot shuts the host down, keeps its disk under the name snap and boots it again.
func (h *Host) Snapshot(snap string) { h.t.Helper(); h.do("snapshot", h.Name, snap) }

// Restore puts the disk of a snapshot back and boots the host with it.
func (h *Host) Restore(snap string) { h.t.Helper(); h.do("restore", h.Name, snap) }

// Stop shuts the host down as an administrator would.
func (h *Host) Stop() { h.t.Helper(); h.do("stop", h.Name) }

// Down removes the host before the test ends.
func (h *Host) Down() { h.t.Helper(); h.do("down", h.Name) }

// PullPlug ends the host at once, every process of it.
func (h *Host) PullPlug() { h.t.Helper(); h.do("stop", h.Name, "--now") }

// Boot starts a host that was stopped, on the disk it had.
func (h *Host) Boot() { h.t.Helper(); h.do("up", h.Name) }

// Path is where the machine sees a file of the running host, sockets included.
func (h *Host) Path(file string) string { return fmt.Sprintf("/proc/%d/root%s", h.pid(), file) }

// pid is the host's first process as the machine numbers it.
func (h *Host) pid() int {
	var hosts []struct {
		Name string
		PID  int
	}
	if err := json.Unmarshal([]byte(h.do("list", "--json")), &hosts); err != nil {
		h.t.Fatalf("lab list: %v", err)
	}
	for _, x := range hosts {
		if x.Name == h.Name && x.PID != 0 {
			return x.PID
		}
	}
	h.t.Fatalf("host %s does not run", h.Name)
	return 0
}

// do runs a command of the lab tool and gives its output.
func (h *Host) do(args ...string) string {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := h.command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("lab %s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return strings.TrimSpace(stdout.String())
}

func (h *Host) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, h.tool, append([]string{"--lab", h.lab}, args...)...)
}

// labName is stable for a test of a checkout, so that a later run finds what a
// killed one left, and different for every other.
func labName(t testing.TB) string {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	slug := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(t.Name()), "-")
	slug = strings.TrimPrefix(slug, "test")
	if len(slug) > 18 {
		slug = slug[:18]
	}
	sum := sha256.Sum256([]byte(wd + "\x00" + t.Name()))
	return fmt.Sprintf("t%s-%x", strings.TrimRight(slug, "-"), sum[:2])
}

// tool finds scripts/lab/lab in the repository that the test runs in.
func tool(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "scripts", "lab", "lab")
		} else if !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir) {
			t.Fatalf("no go.mod above the test: %v", err)
		}
	}
}
