// Package lab runs the disposable hosts of the e2e tests with scripts/lab/lab and
// compares a host's state before and after a test. A test that requests a host gets
// one or fails; it is never skipped. Each test has its own lab, so that tests
// neither see nor disturb each other.
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

// KeepEnv is the environment variable that, if set, keeps the hosts of a test
// running after it, for inspection with `scripts/lab/lab shell`.
const KeepEnv = "PLINTH_E2E_KEEP"

// Host is one running disposable host. Its methods fail the test if the lab itself
// does not work. The caller checks the results of commands in the host.
type Host struct {
	Name string
	lab  string // name of the test's lab
	tool string // path of scripts/lab/lab
	t    testing.TB
}

// Option is a flag of `lab up`.
type Option []string

// OS sets the operating system of the host, such as "debian-13"; the default is "debian-12".
// The kernel is always the machine's.
func OS(name string) Option { return Option{"--os", name} }

// Disk sets the size of the host's disk, such as "2G"; the default is 40G, sparse.
func Disk(size string) Option { return Option{"--disk", size} }

// Memory sets the host's memory, such as "1G": /proc/meminfo shows it and a cgroup
// enforces it. The default is the machine's memory.
func Memory(size string) Option { return Option{"--memory", size} }

// CPUs limits the host to the first n CPUs of the machine.
func CPUs(n int) Option { return Option{"--cpus", fmt.Sprint(n)} }

// DNS sets the nameserver in the host's /etc/resolv.conf. The default nameserver
// refuses at once; an address outside the lab, such as 192.0.2.53, never answers.
func DNS(address string) Option { return Option{"--dns", address} }

// Up boots a fresh host in t's own lab and removes it when t ends. A host that an
// earlier, killed run of the same test has left is removed first.
func Up(t testing.TB, name string, opts ...Option) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("lab hosts need root")
	}
	h := &Host{Name: name, lab: labName(t), tool: findTool(t), t: t}
	h.runTool("down", name)
	t.Cleanup(func() {
		if os.Getenv(KeepEnv) == "" {
			h.runTool("down", name)
			return
		}
		t.Logf("kept: %s --lab %s shell %s", h.tool, h.lab, name)
	})
	args := []string{"up", name}
	for _, o := range opts {
		args = append(args, o...)
	}
	t.Log(h.runTool(args...))
	return h
}

// ForTest returns h for a subtest: errors of the host's methods fail that test.
func (h *Host) ForTest(t testing.TB) *Host {
	sub := *h
	sub.t = t
	return &sub
}

// IP returns the host's address, which the machine can reach.
func (h *Host) IP() string { return h.runTool("ip", h.Name) }

// Copy copies a file or folder of the machine into the host. If dst is an existing
// folder, the copy is placed in it under its own name.
func (h *Host) Copy(src, dst string) { h.t.Helper(); h.runTool("cp", src, h.Name+":"+dst) }

// Fetch copies a file or folder of the host to the machine, as Copy does.
func (h *Host) Fetch(src, dst string) { h.t.Helper(); h.runTool("cp", h.Name+":"+src, dst) }

// Snapshot shuts the host down, saves its disk under the name snap and boots it again.
func (h *Host) Snapshot(snap string) { h.t.Helper(); h.runTool("snapshot", h.Name, snap) }

// Restore boots the host with the disk of a snapshot.
func (h *Host) Restore(snap string) { h.t.Helper(); h.runTool("restore", h.Name, snap) }

// Stop shuts the host down as an administrator would.
func (h *Host) Stop() { h.t.Helper(); h.runTool("stop", h.Name) }

// Down removes the host before the test ends.
func (h *Host) Down() { h.t.Helper(); h.runTool("down", h.Name) }

// CutPower kills all processes of the host at once.
func (h *Host) CutPower() { h.t.Helper(); h.runTool("stop", h.Name, "--now") }

// Boot starts a stopped host with its disk.
func (h *Host) Boot() { h.t.Helper(); h.runTool("up", h.Name) }

// Path returns the machine's path of a file or socket of the running host.
func (h *Host) Path(file string) string { return fmt.Sprintf("/proc/%d/root%s", h.leaderPID(), file) }

// leaderPID returns the machine's PID of the host's first process.
func (h *Host) leaderPID() int {
	var hosts []struct {
		Name string
		PID  int
	}
	if err := json.Unmarshal([]byte(h.runTool("list", "--json")), &hosts); err != nil {
		h.t.Fatalf("lab list: %v", err)
	}
	for _, x := range hosts {
		if x.Name == h.Name && x.PID != 0 {
			return x.PID
		}
	}
	h.t.Fatalf("host %s is not running", h.Name)
	return 0
}

// runTool runs a command of the lab tool and returns its output, trimmed.
func (h *Host) runTool(args ...string) string {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := h.toolCommand(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("lab %s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return strings.TrimSpace(stdout.String())
}

func (h *Host) toolCommand(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, h.tool, append([]string{"--lab", h.lab}, args...)...)
}

// labName returns a name that is stable for one test in one checkout, so that a run
// finds what a killed run has left, and different for all other tests.
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

// findTool returns the path of scripts/lab/lab in the repository of the test.
func findTool(t testing.TB) string {
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
