//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// createForeignObjects creates objects of other software on a host: a container with
// its own network, firewall rules and chains, routes, a CNI plugin and its state,
// kernel settings, and a data folder that the administrator created.
func createForeignObjects(ctx context.Context, h *lab.Host) {
	h.MustRun(ctx, "sh", "-euc", `
		mkdir -m 0750 /var/lib/plinth
		mkdir -p /opt/cni/bin /var/lib/cni/networks/theirs /etc/modules-load.d
		echo theirs | tee /opt/cni/bin/theirs /var/lib/cni/networks/theirs/10.9.0.2 /etc/sysctl.d/10-theirs.conf >/dev/null
		ip netns add theirs
		ip link add cni-theirs type bridge
		ip addr add 10.9.0.1/24 dev cni-theirs
		ip link set cni-theirs up
		ip link add veth-theirs type veth peer name eth0 netns theirs
		ip link set veth-theirs master cni-theirs up
		ip netns exec theirs ip addr add 10.9.0.2/24 dev eth0
		ip route add 172.29.0.0/16 via 10.9.0.2
		ip rule add from 172.29.0.0/16 lookup 777
		iptables -N CNI-THEIRS
		iptables -A CNI-THEIRS -s 10.9.0.0/24 -j ACCEPT
		iptables -I FORWARD -j CNI-THEIRS -m comment --comment 'theirs, beside kube-bridge'
		iptables -t nat -A POSTROUTING -s 10.9.0.0/24 -j MASQUERADE
		systemd-run --quiet --unit theirs --slice theirs.slice ip netns exec theirs sleep infinity`)
}

// checkRollback lets a first install fail once k0s runs, and verifies that it is
// rolled back.
func checkRollback(t *testing.T, ctx context.Context, h *lab.Host, fresh lab.Baseline) {
	// The bundle comes through a pipe: its files must be removed, too.
	stdout, stderr, code := h.Run(ctx, "sh", "-c", "cat "+bundle+" | PLINTH_FAILPOINTS=install/images-boot:begun=error "+binary+" -o json install --bundle - --yes --rollback-on-failure")
	if code != 7 {
		t.Fatalf("exit %d\n%s\n%s", code, lastLines(stdout, 10), lastLines(stderr, 20))
	}
	if r := parseReply(t, stdout); r.Error == nil || !strings.Contains(r.Error.Hint, "this host is as it was before") {
		t.Errorf("error: %+v", r.Error)
	}
	checkUnchanged(t, fresh, h.Baseline(ctx))
}

// checkFullDisk fills the disk while images are imported: the run must report it. The
// next run resumes once there is space again.
func checkFullDisk(t *testing.T, ctx context.Context, h *lab.Host) {
	p := startInstall(t, ctx, h, `"step":"images-rest","state":"progress"`)
	// kubelet, which looks every ten seconds, must not see it: it would keep pods from the node for five minutes.
	h.MustRun(ctx, "sh", "-euc", `pkill -STOP -x kubelet; fallocate -l $(($(df --output=avail -B1 / | tail -n 1) - 32000000)) /srv/filler`)
	p.WaitFor(ctx, "no space left")
	h.MustRun(ctx, "sh", "-euc", "rm /srv/filler; pkill -CONT -x kubelet")
	stdout, stderr, code := p.Wait()
	if code != 7 || !strings.Contains(stdout, "no space left") {
		t.Errorf("a full disk: exit %d\n%s\n%s", code, lastLines(stdout, 5), lastLines(stderr, 10))
	}
}

// checkResetKeepsData resets without --delete-data, then with it.
func checkResetKeepsData(t *testing.T, ctx context.Context, h *lab.Host, fresh lab.Baseline) {
	if r := runPlinth(t, ctx, h, 2, "reset", "cluster", "--yes"); !strings.Contains(r.Error.Hint, "--cluster my-app") {
		t.Errorf("a reset of just any cluster: %+v", r.Error)
	}
	runPlinth(t, ctx, h, 2, "reset", "cluster", "--yes", "--cluster", "other")
	h.MustRun(ctx, "sh", "-c", "echo mine >/etc/k0s/mine")
	begun := time.Now()
	r := runPlinth(t, ctx, h, 0, "reset", "cluster", "--yes", "--cluster", "my-app")
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("the reset took %.1fs", took.Seconds())
	}
	said := strings.Join(r.Result.Retained, "\n")
	if !strings.Contains(said, "/var/lib/plinth/volumes: data of") || !strings.Contains(said, "/etc/k0s/mine") {
		t.Errorf("retained: %s", said)
	}
	for _, d := range diffBaselines(t, fresh, h.Baseline(ctx)) {
		if !strings.Contains(d, "/etc/k0s/mine") && !strings.Contains(d, "/var/lib/plinth/volumes") && !strings.Contains(d, "/var/lib/plinth/kept.json") && !isExpectedDifference(d) {
			t.Errorf("host differs: %s", d)
		}
	}
	h.MustRun(ctx, "rm", "/etc/k0s/mine")
	runPlinth(t, ctx, h, 0, "reset", "cluster", "--yes", "--cluster", "my-app", "--delete-data")
	checkUnchanged(t, fresh, h.Baseline(ctx))
	if r := runPlinth(t, ctx, h, 0, "reset", "cluster", "--yes", "--cluster", "my-app"); r.Result.Changed {
		t.Error("another reset changed something")
	}
}
