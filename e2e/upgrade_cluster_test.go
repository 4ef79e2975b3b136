//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/e2e/lab"
)

// upgradedCluster is a cluster of three controllers and a worker.
type upgradedCluster struct {
	controllers []*lab.Host
	worker      *lab.Host
	old         string // digest of the bundle with which they were installed
	oldPlinth   string // SHA-256 of the plinth with which they were installed
}

// nextPlinth returns a plinth that differs from the shipped one, as `make build` writes it and as the vendor ships it.
func nextPlinth(t *testing.T) (built, shipped string) {
	t.Helper()
	shippedFiles(t)
	d, err := prepareShipment()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(requireEnv(t, "PLINTH_E2E_BINARY"))
	if err != nil {
		t.Fatal(err)
	}
	built, shipped = filepath.Join(t.TempDir(), "plinth"), filepath.Join(t.TempDir(), "plinth")
	if err := os.WriteFile(built, append(program, "the next release\n"...), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := runLocal(built, "bundle", "embed", "--verify-key", d.key, "--output-file", shipped); err != nil {
		t.Fatal(err)
	}
	return built, shipped
}

// all returns all hosts.
func (c upgradedCluster) all() []*lab.Host { return append(c.controllers[:3:3], c.worker) }

// bundles returns the bundle in the receipt of each node: the digests by host.
func (c upgradedCluster) bundles(ctx context.Context) map[string]string {
	all := map[string]string{}
	for _, h := range c.all() {
		var receipt struct{ Bundle string }
		_ = json.Unmarshal([]byte(h.MustRun(ctx, "cat", "/var/lib/plinth/receipt.json")), &receipt)
		all[h.Name] = receipt.Bundle
	}
	return all
}

// check verifies that all nodes have the old bundle and Plinth, or all the same others, that kubelets have the version
// and API servers the node-port range, and that all nodes are Ready and take pods.
func (c upgradedCluster) check(t *testing.T, ctx context.Context, isOld bool) {
	t.Helper()
	kubelet, ports := "v1.33.13", "80-32000"
	if isOld {
		kubelet, ports = "v1.33.4", "80-32767"
	}
	have := c.bundles(ctx)
	for name, is := range have {
		if (is == c.old) != isOld || is != have[c.worker.Name] {
			t.Errorf("%s has the bundle %s; the old one is %s", name, is, c.old)
		}
	}
	for _, h := range c.controllers {
		if args := h.MustRun(ctx, "pgrep", "-af", "service-node-port-range"); !strings.Contains(args, ports) {
			t.Errorf("%s: the API server has another range: %s", h.Name, args)
		}
	}
	for _, h := range c.all() {
		if out, _, code := h.Run(ctx, "systemctl", "is-active", "plinth-agent"); code != 0 {
			t.Errorf("%s: plinth-agent is %s", h.Name, out)
		}
		if is := fileSum(ctx, h, "/usr/local/bin/plinth-agent"); (is == c.oldPlinth) != isOld {
			t.Errorf("%s: its agent has the digest %s, that of the old release is %s", h.Name, is, c.oldPlinth)
		}
	}
	if out := c.controllers[0].MustRun(ctx, binary, "kubectl", "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}"); strings.Count(out, kubelet) != 4 {
		t.Errorf("kubelets are %s, want %s", out, kubelet)
	}
	waitForStatus(t, ctx, c.controllers[0], time.Minute, "all nodes are Ready", allReady(4, 3))
	if out := c.controllers[0].MustRun(ctx, binary, "kubectl", "get", "nodes", "-o", `jsonpath={range .items[?(@.spec.unschedulable)]}{.metadata.name} {end}`); strings.TrimSpace(out) != "" {
		t.Errorf("still cordoned: %s", out)
	}
}

// useDisk creates the disks of the test's hosts in the file system of the lab, if the folder in memory has less space left
// than they will need, in bytes.
func useDisk(t *testing.T, need uint64) {
	t.Helper()
	var fs unix.Statfs_t
	if dir := os.Getenv("LAB_DISKS"); dir != "" && (unix.Statfs(dir, &fs) != nil || fs.Bavail*uint64(fs.Bsize) < need) {
		t.Setenv("LAB_DISKS", "")
	}
}

// fileSum returns the SHA-256 of a file.
func fileSum(ctx context.Context, h *lab.Host, path string) string {
	return strings.Fields(h.MustRun(ctx, "sha256sum", path))[0]
}

// TestUpgrade_Cluster upgrades k0s, KOTS, Plinth and the configuration of three controllers and a worker with one command,
// and rolls that back on another controller. Then it does so with faults: a full disk, a node on which the new k0s does not
// start, a killed coordinator, a power cut, a budget that blocks a drain, and a node that is off. Each leaves the cluster
// in the state that the next one needs. The disks of its hosts grow to 30 GB together.
func TestUpgrade_Cluster(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half an hour: make test-long")
	}
	ctx := timeoutContext(t, 100)
	useDisk(t, 30e9)
	payload, older := requireEnv(t, "PLINTH_E2E_PAYLOAD"), requireEnv(t, "PLINTH_E2E_PAYLOAD_OLDER")
	var c upgradedCluster
	for i := range 3 {
		c.controllers = append(c.controllers, startHostWithPlinth(t, fmt.Sprintf("um%d", i+1)))
	}
	c.worker = startHostWithPlinth(t, "um4")
	a, b := c.controllers[0], c.controllers[1]
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.describeUpgrade(context.WithoutCancel(ctx)), describeCluster(context.WithoutCancel(ctx), a))
		}
	})
	a.Copy(buildVariant(t, older, 1, "v1.33.8+k0s.1", "v1.33.4+k0s.0", "1.131.2", "1.130.9"), bundle)
	runPlinth(t, ctx, a, 0, "install", "--bundle", bundle, "--yes")
	for _, h := range c.controllers[1:] {
		joinHost(t, ctx, h, 0, createToken(t, ctx, a, "--role", "controller").Result.Token)
	}
	joinHost(t, ctx, c.worker, 0, createToken(t, ctx, a, "--role", "worker").Result.Token)
	c.old, c.oldPlinth = c.bundles(ctx)[a.Name], fileSum(ctx, a, "/usr/local/bin/plinth-agent")
	c.check(t, ctx, true)

	built, shipped := nextPlinth(t)
	changed := buildSigned(t, built, payload, 2, writeInstaller(t, changedSettings[:2]...))
	copyDelta(t, a, changed, buildSigned(t, built, payload, 3, writeInstaller(t, changedSettings[:4]...)), laterBundle)
	for _, h := range []*lab.Host{a, b} { // the others get only what the upgrade brings
		h.Copy(shipped, binary)
		h.Copy(changed, changedBundle)
	}

	t.Run("a node whose agent does not answer is named before anything changes", func(t *testing.T) {
		c.worker.MustRun(ctx, "systemctl", "stop", "plinth-agent")
		defer c.worker.MustRun(ctx, "systemctl", "start", "plinth-agent")
		if r := runPlinth(t, ctx, a.ForTest(t), 5, "upgrade", "--bundle", changedBundle, "--yes"); !strings.Contains(r.Error.Cause, "um4") || !strings.Contains(r.Error.Cause, "--skip-node") {
			t.Errorf("%+v", r.Error)
		}
	})
	t.Run("a node whose disk is almost full is named before anything changes", func(t *testing.T) { c.checkFullDisk(t, ctx) })
	if !t.Run("one command upgrades all nodes", func(t *testing.T) {
		start := time.Now()
		runPlinth(t, ctx, a.ForTest(t), 0, "upgrade", "--bundle", changedBundle, "--yes")
		t.Logf("upgraded in %.0fs", time.Since(start).Seconds())
		c.check(t, ctx, false)
	}) {
		t.FailNow()
	}
	t.Run("a second run changes nothing", func(t *testing.T) {
		if r := runPlinth(t, ctx, a.ForTest(t), 0, "upgrade", "--bundle", changedBundle, "--yes"); r.Result.Changed {
			t.Errorf("%+v", r.Result)
		}
	})
	if !t.Run("another controller takes all nodes back", func(t *testing.T) {
		start := time.Now()
		runPlinth(t, ctx, b.ForTest(t), 0, "upgrade", "--rollback", "--yes")
		t.Logf("rolled back in %.0fs", time.Since(start).Seconds())
		c.check(t, ctx, true)
	}) {
		t.FailNow()
	}
	if !t.Run("a k0s that does not start on another node is rolled back there", func(t *testing.T) { c.checkBrokenNode(t, ctx) }) {
		t.FailNow()
	}
	if !t.Run("another controller finishes what a killed one has begun", func(t *testing.T) { c.checkTakeOver(t, ctx) }) {
		t.FailNow()
	}
	t.Run("a node that is off is skipped, and upgraded later", func(t *testing.T) { c.checkSkippedNode(t, ctx) })
}
