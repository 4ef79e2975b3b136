//go:build e2e

package e2e

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// TestRepair_Address gives a host with a cluster another address, as a DHCP server does while k0s runs, and repairs it.
func TestRepair_Address(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long changes the address of a host")
	}
	runParallel(t)
	ctx := timeoutContext(t, 30)
	h := startHostWithPlinth(t, "moved")
	before := h.IP()
	runPlinth(t, ctx, h, 0, "install", "--bundle", bundle, "--yes")
	startSleeper(t, ctx, h, h)
	h.MustRun(ctx, binary, "kubectl", "create", "configmap", "own")

	t.Run("a host with its address is not changed", func(t *testing.T) { checkNothingToRepair(t, ctx, h.ForTest(t)) })
	t.Run("a renamed host is refused", func(t *testing.T) {
		h := h.ForTest(t)
		name := strings.TrimSpace(h.MustRun(ctx, "hostname"))
		h.MustRun(ctx, "hostname", "renamed")
		defer h.MustRun(ctx, "hostname", name)
		if r := runPlinth(t, ctx, h, 5, "repair", "address", "--yes"); r.Error == nil || !strings.Contains(r.Error.Hint, "hostnamectl set-hostname "+name) {
			t.Errorf("%+v", r.Error)
		}
	})
	t.Run("an address of the pods is refused", func(t *testing.T) {
		h := h.ForTest(t)
		h.MustRun(ctx, "ip", "address", "add", "10.244.77.7/32", "dev", "eth0")
		defer h.MustRun(ctx, "ip", "address", "del", "10.244.77.7/32", "dev", "eth0")
		if r := runPlinth(t, ctx, h, 5, "repair", "address", "--address", "10.244.77.7", "--yes"); r.Error == nil || !strings.Contains(r.Error.Cause, "overlaps with spec.network.podCIDR") {
			t.Errorf("%+v", r.Error)
		}
	})

	after := moveHost(t, ctx, h, before)
	t.Run("status and diagnose name the command", func(t *testing.T) {
		h := h.ForTest(t)
		for _, args := range [][]string{{"status"}, {"diagnose"}, {"install", "--bundle", bundle, "--yes"}} {
			stdout, stderr, _ := h.Run(ctx, append([]string{binary}, args...)...)
			if !strings.Contains(stdout+stderr, "repair address") || !strings.Contains(stdout+stderr, "it no longer has its node's address "+before) {
				t.Errorf("%v:\n%s%s", args, stdout, stderr)
			}
		}
	})
	t.Run("a repair is resumed after kills", func(t *testing.T) {
		h := h.ForTest(t)
		for _, point := range []string{"repair/repair-pods:applied", "repair/k0s-service:applied", "repair/etcd-address:begun", "repair/etcd-address:applied", "repair/receipt:write"} {
			kill(t, ctx, h, point, "repair", "address", "--yes")
		}
		if r := runPlinth(t, ctx, h, 0, "repair", "address", "--yes"); !r.Result.Changed || r.Result.ConsoleURL != "https://"+after+":8800" {
			t.Errorf("%+v", r.Result)
		}
	})
	if t.Failed() {
		return
	}
	t.Run("everything is Ready at the new address", func(t *testing.T) { checkMoved(t, ctx, h.ForTest(t), before, after) })
	t.Run("a second repair and an install change nothing", func(t *testing.T) {
		checkNothingToRepair(t, ctx, h.ForTest(t))
		checkConverged(t, ctx, h.ForTest(t))
	})
	t.Run("and back, while the host has both addresses", func(t *testing.T) {
		h := h.ForTest(t)
		h.MustRun(ctx, "ip", "address", "add", before+"/24", "dev", "eth0")
		runPlinth(t, ctx, h, 0, "repair", "address", "--address", before, "--yes")
		checkMoved(t, ctx, h, after, before)
	})
}

// checkNothingToRepair verifies that a repair ends at once and changes nothing on a host that has the address of its node.
func checkNothingToRepair(t *testing.T, ctx context.Context, h *lab.Host) {
	t.Helper()
	baseline, began := h.Baseline(ctx), time.Now()
	if r := runPlinth(t, ctx, h, 0, "repair", "address", "--yes"); r.Result.Changed {
		t.Errorf("%+v", r.Result)
	}
	if took := time.Since(began); took > 5*time.Second { // a second, and the time to read the baseline on a busy machine
		t.Errorf("it took %s", took)
	}
	for _, d := range diffBaselines(t, baseline, h.Baseline(ctx)) {
		if !clusterChanges.MatchString(d) {
			t.Errorf("the host was changed: %s", d)
		}
	}
}

// moveHost replaces the address of a host by another one of its network, which no host of the lab has, and returns it.
func moveHost(t testing.TB, ctx context.Context, h *lab.Host, before string) string {
	t.Helper()
	parts := netip.MustParseAddr(before).As4()
	parts[3] = 251
	after := netip.AddrFrom4(parts).String()
	h.MustRun(ctx, "sh", "-ec", `route=$(ip -4 route show default | head -n1)
		ip -4 address flush dev eth0 scope global
		ip address add `+after+`/24 dev eth0
		ip route replace $route
		sed 's/^`+strings.ReplaceAll(before, ".", `\.`)+`\b/`+after+`/' /etc/hosts >/run/hosts && cat /run/hosts >/etc/hosts`)
	return after
}

// checkMoved verifies that a cluster of one host has its new address everywhere, and works.
func checkMoved(t *testing.T, ctx context.Context, h *lab.Host, before, after string) {
	t.Helper()
	waitForStatus(t, ctx, h, 3*time.Minute, "the cluster at "+after, func(v clusterStatus) bool {
		return allReady(1, 1)(v) && slices.ContainsFunc(v.Etcd, func(m etcdMember) bool { return m.Address == after })
	})
	waitUntilHealthy(t, ctx, h)
	checkSingleNodeStatus(t, ctx, h)
	if err := runLocal("curl", "-skf", "-m", "10", "-o", "/dev/null", "https://"+after+":8800/healthz"); err != nil {
		t.Error(err)
	}
	kubectl := func(args ...string) string { return h.MustRun(ctx, append([]string{binary, "kubectl"}, args...)...) }
	if got := kubectl("get", "nodes", "-o", `jsonpath={.items[*].status.addresses[?(@.type=="InternalIP")].address}`); got != after {
		t.Errorf("the node has %s", got)
	}
	if got := kubectl("get", "endpoints", "kubernetes", "-o", "jsonpath={.subsets[*].addresses[*].ip}"); got != after {
		t.Errorf("the API has %s", got)
	}
	for _, pods := range []string{kubectl("get", "pods", "-A", "--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].status.hostIP} {.items[*].status.podIP}"), kubectl("get", "configmap", "-n", "kube-system", "plinth-nodes", "-o", "yaml")} {
		if slices.Contains(strings.FieldsFunc(pods, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }), before) {
			t.Errorf("the former address is in: %s", pods)
		}
	}
	kubectl("get", "configmap", "own")
	kubectl("wait", "--for=condition=Ready", "--timeout=120s", "pod/sleeper")
	kubectl("logs", "sleeper") // kubelet serves it with a certificate for the new address
	joinArgs := createToken(t, ctx, h, "--role", "worker")
	if !strings.Contains(joinArgs.Result.Fetch, after) || strings.Contains(joinArgs.Result.Fetch, before+":") {
		t.Errorf("the token leads to %s", joinArgs.Result.Fetch)
	}
}
