//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// checkWorkerLeaves resets a worker that leaves the cluster. The reset is killed at
// each boundary of its requests to the cluster and of the first objects that it
// removes, and resumed each time. Every controller refuses the worker's credentials
// from then on.
func checkWorkerLeaves(t *testing.T, ctx context.Context, a, b *lab.Host, fresh lab.Baseline, c *lab.Host) {
	kubectl := func(args ...string) string { return a.MustRun(ctx, append([]string{binary, "kubectl"}, args...)...) }
	// A pod that no controller would start elsewhere is named, and not deleted without --force.
	image := kubectl("get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	kubectl("delete", "pod", "on-b", "--now", "--ignore-not-found")
	kubectl("run", "alone", "--image="+image, "--image-pull-policy=Never", `--overrides={"spec":{"nodeName":"b"}}`, "--command", "--", "kubectl", "proxy")
	kubectl("wait", "--for=condition=Ready", "--timeout=60s", "pod/alone")
	r := runPlinth(t, ctx, b, 2, "reset", "node", "--yes")
	if r.Error == nil || !strings.Contains(r.Error.Cause, "pod default/alone has no controller") {
		t.Errorf("%+v", r.Error)
	}
	kubectl("delete", "pod", "alone", "--now")
	if r := runPlinth(t, ctx, b, 0, "reset", "node", "--dry-run"); len(r.Result.Plan) < 5 || r.Result.Plan[0].Step != "node-cordon" {
		t.Errorf("the dry run: %+v", r.Result.Plan)
	}
	b.MustRun(ctx, "cp", "/var/lib/plinth/agent/identity.pem", "/root/kept.pem")
	runKilledUntilDone(t, ctx, b, "reset", []string{"run:started", "node-cordon:begun", "node-cordon:applied", "node-leave:needed", "node-leave:begun", "node-leave:applied",
		"units:needed", "units:applied", "files:begun"}, "reset", "node", "--yes", "--delete-data")
	checkNodeRemoved(t, ctx, a, b)
	for _, to := range []*lab.Host{a, c} {
		if got := b.MustRun(ctx, "curl", "-sk", "--cert", "/root/kept.pem", "https://"+to.IP()+":9444/v2/"); !strings.Contains(got, "node b was removed from the cluster") {
			t.Errorf("%s, to a node that has left: %s", to.Name, got)
		}
	}
	b.MustRun(ctx, "rm", "/root/kept.pem")
	checkUnchanged(t, fresh, b.Baseline(ctx))
	if r := runPlinth(t, ctx, b, 0, "reset", "node", "--yes"); r.Result.Changed {
		t.Errorf("a second time: %+v", r.Result)
	}
}

// checkControllerLeaves resets one of three controllers, which leaves the cluster and
// etcd.
func checkControllerLeaves(t *testing.T, ctx context.Context, a, d *lab.Host) {
	runKilledUntilDone(t, ctx, d, "reset", []string{"node-leave:begun", "node-leave:applied"}, "reset", "node", "--yes", "--force", "--timeout", "10s")
	checkNodeRemoved(t, ctx, a, d)
	if members := a.MustRun(ctx, "k0s", "etcd", "member-list"); strings.Contains(members, d.IP()+":2380") {
		t.Errorf("it is still a member of etcd: %s", members)
	}
}

// checkNodeRemoved verifies that the cluster has no node for the host and refuses its
// credentials.
func checkNodeRemoved(t *testing.T, ctx context.Context, a, h *lab.Host) {
	t.Helper()
	if out, _, code := a.Run(ctx, binary, "kubectl", "get", "node", h.Name); code == 0 {
		t.Errorf("%s is still a node: %s", h.Name, out)
	}
	if record := a.MustRun(ctx, binary, "kubectl", "get", "configmap", "-n", "kube-system", "plinth-nodes", "-o", "jsonpath={.data."+h.Name+"}{.data.uid_"+h.Name+"}"); record != "" {
		t.Errorf("%s still has a record: %s", h.Name, record)
	}
}

// runKilledUntilDone runs a command until one run succeeds. Each run is killed at the
// first point of verb at which no earlier run was killed.
func runKilledUntilDone(t *testing.T, ctx context.Context, h *lab.Host, verb string, points []string, args ...string) {
	t.Helper()
	start, kills := time.Now(), 0
	pending := map[string]bool{}
	for _, p := range points {
		pending[verb+"/"+p] = true
	}
	for range len(points) + 1 {
		var rules []string
		for p := range pending {
			rules = append(rules, p+"=kill")
		}
		stdout, stderr, code := h.Run(ctx, append([]string{"env", "PLINTH_FAILPOINTS=" + strings.Join(rules, ";"), binary, "-o", "json"}, args...)...)
		died := ""
		for p := range pending {
			if strings.Contains(stderr, "failpoint "+p+": this process ends now") {
				died = p
			}
		}
		switch {
		case died != "":
			delete(pending, died)
			kills++
			continue
		case code != 0:
			t.Fatalf("%s: exit %d after %d kills\n%s\n%s", h.Name, code, kills, lastLines(stdout, 30), lastLines(stderr, 30))
		}
		t.Logf("%s: %s: killed %d times in %.0fs, never at %v", h.Name, strings.Join(args, " "), kills, time.Since(start).Seconds(), pending)
		return
	}
	t.Fatalf("%s: it never succeeded", h.Name)
}
