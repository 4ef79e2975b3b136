//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestInstall_WithoutNameServer installs on a host that has no resolv.conf: the
// cluster works, look-ups of other names fail at once, a name server that comes later
// is used without a restart of k0s, and the reset leaves nothing.
func TestInstall_WithoutNameServer(t *testing.T) {
	runParallel(t)
	ctx := timeoutContext(t, 15)
	h := startHostWithPlinth(t, "nodns")
	h.MustRun(ctx, "rm", "/etc/resolv.conf")
	fresh := h.Baseline(ctx)

	runPlinth(t, ctx, h, 0, "install", "--bundle", bundle, "--yes")
	const written = "/etc/k0s/plinth-resolv.conf"
	if got := h.MustRun(ctx, "grep", "nameserver", written); strings.TrimSpace(got) != "nameserver fe80::1" {
		t.Errorf("%s has %q", written, got)
	}
	kubelet := h.MustRun(ctx, "pgrep", "-a", "kubelet")
	if !strings.Contains(kubelet, "--resolv-conf="+written) {
		t.Errorf("kubelet runs without the file: %s", kubelet)
	}
	checkPodReachesService(t, ctx, h)
	restarts := h.MustRun(ctx, binary, "kubectl", "get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}")
	if strings.Trim(restarts, "0 ") != "" {
		t.Errorf("CoreDNS was restarted: %s", restarts)
	}

	t.Run("a name server comes later", func(t *testing.T) {
		h := h.ForTest(t)
		h.MustRun(ctx, "sh", "-c", "echo 'nameserver 192.0.2.53' >/etc/resolv.conf")
		runPlinth(t, ctx, h, 0, "install", "--bundle", bundle, "--yes")
		if got := h.MustRun(ctx, "cat", written); !strings.Contains(got, "nameserver 192.0.2.53") {
			t.Errorf("%s has %q", written, got)
		}
		if now := h.MustRun(ctx, "pgrep", "-a", "kubelet"); now != kubelet {
			t.Errorf("kubelet was restarted: %s", now)
		}
		h.MustRun(ctx, "rm", "/etc/resolv.conf")
	})

	runPlinth(t, ctx, h, 0, "reset", "cluster", "--yes", "--cluster", "my-app", "--delete-data")
	checkUnchanged(t, fresh, h.Baseline(ctx))
}
