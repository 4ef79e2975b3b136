//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// upgradedCluster is a cluster of three controllers and a worker.
type upgradedCluster struct {
	controllers []*lab.Host
	worker      *lab.Host
	old         string // digest of the bundle with which they were installed
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

// check verifies that all nodes have the old bundle, or all the same other one, and the node-port range, are Ready and
// take pods.
func (c upgradedCluster) check(t *testing.T, ctx context.Context, isOld bool, ports string) {
	t.Helper()
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
	}
	waitForStatus(t, ctx, c.controllers[0], time.Minute, "all nodes are Ready", allReady(4, 3))
	if out := c.controllers[0].MustRun(ctx, binary, "kubectl", "get", "nodes", "-o", `jsonpath={range .items[?(@.spec.unschedulable)]}{.metadata.name} {end}`); strings.TrimSpace(out) != "" {
		t.Errorf("still cordoned: %s", out)
	}
}

// TestUpgrade_Cluster upgrades three controllers and a worker with one command, also when the host on which it runs is
// killed, and takes that back on another controller. The disks of its hosts grow to 20 GB together.
func TestUpgrade_Cluster(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a quarter of an hour: make test-long")
	}
	ctx := timeoutContext(t, 60)
	payload := requireEnv(t, "PLINTH_E2E_PAYLOAD")
	var c upgradedCluster
	for i := range 3 {
		c.controllers = append(c.controllers, startHostWithPlinth(t, fmt.Sprintf("um%d", i+1)))
	}
	c.worker = startHostWithPlinth(t, "um4")
	a, b := c.controllers[0], c.controllers[1]
	changed := buildVariant(t, payload, 2, "nodePortRange: 80-32767", "nodePortRange: 80-32000")
	a.Copy(changed, changedBundle)
	b.Copy(changed, changedBundle)
	runPlinth(t, ctx, a, 0, "install", "--bundle", bundle, "--yes")
	for _, h := range c.controllers[1:] {
		joinHost(t, ctx, h, 0, createToken(t, ctx, a, "--role", "controller").Result.Token)
	}
	joinHost(t, ctx, c.worker, 0, createToken(t, ctx, a, "--role", "worker").Result.Token)
	c.old = c.bundles(ctx)[a.Name]
	c.check(t, ctx, true, "80-32767")

	t.Run("a node whose agent does not answer is named before anything changes", func(t *testing.T) {
		c.worker.MustRun(ctx, "systemctl", "stop", "plinth-agent")
		defer c.worker.MustRun(ctx, "systemctl", "start", "plinth-agent")
		if r := runPlinth(t, ctx, a.ForTest(t), 5, "upgrade", "--bundle", changedBundle, "--yes"); !strings.Contains(r.Error.Cause, "um4") || !strings.Contains(r.Error.Cause, "--skip-node") {
			t.Errorf("%+v", r.Error)
		}
	})
	if !t.Run("one command upgrades all nodes", func(t *testing.T) {
		start := time.Now()
		runPlinth(t, ctx, a.ForTest(t), 0, "upgrade", "--bundle", changedBundle, "--yes")
		t.Logf("upgraded in %.0fs", time.Since(start).Seconds())
		c.check(t, ctx, false, "80-32000")
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
		c.check(t, ctx, true, "80-32767")
	}) {
		t.FailNow()
	}
	t.Run("another controller finishes what a killed one has begun", func(t *testing.T) {
		p := a.ForTest(t).Start(ctx, lab.Cmd{Args: []string{binary, "upgrade", "--bundle", changedBundle, "--yes"}})
		const upgrading = `for i in $(seq 600); do ` + binary + ` kubectl get configmap -n kube-system plinth-upgrade -o yaml 2>/dev/null | grep -q '"state":"upgrading"' && exit 0; sleep 0.5; done; exit 1`
		c.controllers[2].MustRun(ctx, "sh", "-c", upgrading)
		a.MustRun(ctx, "pkill", "-9", "-x", "plinth")
		if _, _, code := p.Wait(); code == 0 {
			t.Error("the first upgrade was not killed")
		}
		runPlinth(t, ctx, b.ForTest(t), 0, "upgrade", "--bundle", changedBundle, "--yes")
		c.check(t, ctx, false, "80-32000")
	})
}
