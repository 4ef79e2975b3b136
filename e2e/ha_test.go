//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// etcdMember is a member of etcd in the output of `plinth status`.
type etcdMember struct {
	ID, Name, Address string
	Leader            bool
}

// clusterStatus is the output of `plinth status` on a controller.
type clusterStatus struct {
	Nodes []struct {
		Name  string
		Ready bool
	}
	API  []struct{ Ready bool }
	Etcd []etcdMember
}

// readStatus runs `plinth status` on a host.
func readStatus(t testing.TB, ctx context.Context, h *lab.Host) clusterStatus {
	t.Helper()
	var answer struct{ Result clusterStatus }
	out := h.MustRun(ctx, binary, "-o", "json", "status")
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("status: %v: %s", err, out)
	}
	return answer.Result
}

// waitForStatus reads the status until done returns true, and returns the time that
// this took. It fails the test if it takes longer than within.
func waitForStatus(t testing.TB, ctx context.Context, h *lab.Host, within time.Duration, what string, done func(clusterStatus) bool) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		v := readStatus(t, ctx, h)
		switch took := time.Since(began); {
		case done(v):
			t.Logf("%s: after %.1fs", what, took.Seconds())
			return took
		case took > within:
			t.Fatalf("%s: not within %s: %+v", what, within, v)
		}
		h.MustRun(ctx, "sleep", "0.5")
	}
}

// allReady returns a condition for waitForStatus: all nodes are Ready, and all
// controllers serve the API and are members of etcd.
func allReady(nodes, controllers int) func(clusterStatus) bool {
	return func(v clusterStatus) bool {
		ok := len(v.Nodes) == nodes && len(v.API) == controllers && len(v.Etcd) == controllers
		for _, n := range v.Nodes {
			ok = ok && n.Ready
		}
		for _, api := range v.API {
			ok = ok && api.Ready
		}
		return ok && !slices.ContainsFunc(v.Etcd, func(m etcdMember) bool { return m.Name == "" })
	}
}

// checkControllerLosses has a cluster of the controllers a, c and d and the worker b, and more workers. It removes one
// controller, and returns the one of c and d that is left.
func checkControllerLosses(t *testing.T, ctx context.Context, a, b, c, d *lab.Host, more ...*lab.Host) (left *lab.Host) {
	t.Run("the console's database has three replicas", func(t *testing.T) { checkReplicas(t, ctx, a.ForTest(t)) })
	if !t.Run("the etcd leader loses power and comes back", func(t *testing.T) {
		checkLeaderLoss(t, ctx, []*lab.Host{a.ForTest(t), c.ForTest(t), d.ForTest(t)}, append([]*lab.Host{b.ForTest(t)}, more...))
	}) {
		t.FailNow()
	}
	left = c
	t.Run("the etcd leader is removed", func(t *testing.T) {
		if removeLeader(t, ctx, []*lab.Host{a.ForTest(t), c.ForTest(t), d.ForTest(t)}, b.ForTest(t)) == c.Name {
			left = d
		}
	})
	t.Run("an etcd member that never started is removed", func(t *testing.T) { checkRemoveUnstartedMember(t, ctx, a.ForTest(t)) })
	return left
}

// checkReplacement removes the worker e and joins the controller f to a cluster of the controllers a and left, and a worker.
func checkReplacement(t *testing.T, ctx context.Context, a, left, f, e *lab.Host) {
	t.Run("a worker is drained and removed", func(t *testing.T) { checkDrainAndRemove(t, ctx, a.ForTest(t), e.ForTest(t)) })
	e.CutPower()
	t.Run("a controller joins while the controller that admits it is killed", func(t *testing.T) {
		checkJoinSurvivesController(t, ctx, left.ForTest(t), f.ForTest(t))
		waitForStatus(t, ctx, a.ForTest(t), 3*time.Minute, f.Name+" has joined", allReady(4, 3))
	})
	t.Run("the console's database has three replicas again", func(t *testing.T) {
		checkReplicas(t, ctx, a.ForTest(t))
		waitForConsole(t, ctx, time.Now(), a.ForTest(t))
	})
}

// findOrMoveLeader returns the leader of etcd. If it is the first controller, the
// leadership is moved to the second one before.
func findOrMoveLeader(t testing.TB, ctx context.Context, controllers ...*lab.Host) *lab.Host {
	t.Helper()
	for range 30 {
		var first string // the id of the second controller's member
		var leads *lab.Host
		for _, m := range readStatus(t, ctx, controllers[0]).Etcd {
			for i, h := range controllers {
				if m.Name == h.Name && m.Leader {
					leads = controllers[i]
				}
			}
			if m.Name == controllers[1].Name {
				first = m.ID
			}
		}
		if leads != nil && leads != controllers[0] {
			return leads
		}
		if leads != nil {
			leads.MustRun(ctx, "sh", "-c", "curl -sSkf -m 10 "+asEtcd+` -d '{"targetID":"`+first+`"}' https://127.0.0.1:2379/v3/maintenance/transfer-leadership`)
		}
		controllers[0].MustRun(ctx, "sleep", "1")
	}
	t.Fatal("etcd does not transfer its leadership")
	return nil
}

// checkLeaderLoss cuts the power of the controller that is the etcd leader, during
// writes, and boots it again. The first controller has the console's own files and
// keeps running.
func checkLeaderLoss(t *testing.T, ctx context.Context, controllers, workers []*lab.Host) {
	a := controllers[0]
	victim := findOrMoveLeader(t, ctx, controllers...)
	asks, stop := context.WithCancel(ctx)
	defer stop()
	var clients []apiClient
	var other *lab.Host
	for _, h := range controllers {
		if h != victim {
			clients, other = append(clients, startAPIClient(asks, h, asAdmin)), h
		}
	}
	for _, h := range workers {
		clients = append(clients, startAPIClient(asks, h, asNode))
	}
	writer := victim.Start(asks, lab.Cmd{Args: []string{"bash", "-c", writeScript}})
	if !writer.WaitFor(ctx, "w-30\n") {
		t.Fatal("the API accepts no writes")
	}
	cut := time.Now()
	victim.CutPower()
	a.MustRun(ctx, "sleep", "10")
	for _, c := range clients {
		gap, failed := c.longestGap(t, cut)
		t.Logf("%s, the leader of etcd, lost its power: on %s the API was unavailable for %.2fs, %d requests failed", victim.Name, c.host.Name, gap.Seconds(), failed)
		if gap > 5*time.Second {
			t.Errorf("%s: the API was unavailable for %s", c.host.Name, gap)
		}
	}
	stop()
	acknowledged, _ := writer.Output()
	kept := "\n" + a.MustRun(ctx, binary, "kubectl", "get", "configmaps", "-l", "e2e=ha", "-o", "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}") + "\n"
	n := 0
	for line := range strings.Lines(acknowledged) {
		if n++; !strings.Contains(kept, "\n"+strings.TrimSpace(line)+"\n") {
			t.Errorf("%s was acknowledged and is lost", line)
		}
	}
	t.Logf("%d writes were acknowledged by %s, and all are stored", n, victim.Name)
	if r := runPlinth(t, ctx, a, 2, "node", "remove", other.Name, "--yes"); r.Error == nil || !strings.Contains(r.Error.Cause, "the API would stop") || !strings.Contains(r.Error.Hint, "--force") {
		t.Errorf("a removal that costs the quorum: %+v", r.Error)
	}
	waitForConsole(t, ctx, cut, a, append([]*lab.Host{other}, workers...)...)
	victim.Boot()
	waitForStatus(t, ctx, a, 2*time.Minute, victim.Name+" is back", allReady(len(controllers)+len(workers), len(controllers)))
	if health := victim.MustRun(ctx, "sh", "-c", "curl -sSk -m 5 "+asEtcd+" https://127.0.0.1:2379/health"); !strings.Contains(health, `"health":"true"`) {
		t.Errorf("etcd of %s: %s", victim.Name, health)
	}
}

// waitForConsole calls the console through each host's own port until it reports that
// its database is connected. It logs the state of the cluster after two minutes and
// fails after five: Kubernetes retries at growing intervals.
func waitForConsole(t *testing.T, ctx context.Context, since time.Time, from *lab.Host, hosts ...*lab.Host) {
	t.Helper()
	const long, never = 2 * time.Minute, 5 * time.Minute
	told := false
	for _, h := range append([]*lab.Host{from}, hosts...) {
		for {
			out, _, code := from.Run(ctx, "curl", "-sk", "-m", "8", "https://"+h.IP()+":8800/healthz")
			took := time.Since(since)
			if strings.Contains(out, `"connected":true`) {
				break
			}
			if took > never {
				t.Fatalf("the console does not answer at %s: curl %d, %s\n%s", h.Name, code, out, describeCluster(ctx, from))
			}
			if took > long && !told {
				told = true
				t.Logf("after %.0fs the console does not answer at %s yet: curl %d, %s\n%s", took.Seconds(), h.Name, code, out, describeCluster(ctx, from))
			}
			from.MustRun(ctx, "sleep", "0.5")
		}
	}
	t.Logf("the console answers on all these nodes after %.1fs", time.Since(since).Seconds())
}

// describeCluster returns pods, events and logs that help to find why the console does
// not work.
func describeCluster(ctx context.Context, h *lab.Host) string {
	out, _, _ := h.Run(ctx, "sh", "-c", `k="`+binary+` kubectl --request-timeout=10s"
		$k get nodes,pods,endpointslices,pvc,pv -A -o wide; $k describe pods -n kotsadm -l app=kotsadm-rqlite; $k get events -A --sort-by=.lastTimestamp | tail -n 60
		for p in deployment/console-proxy kotsadm-0 kotsadm-rqlite-0 kotsadm-rqlite-1 kotsadm-rqlite-2; do echo "== $p"; $k logs -n kotsadm $p --all-containers --tail=15; done
		ip route; curl -skv -m 8 https://127.0.0.1:8800/healthz 2>&1 | tail -n 12`)
	return out
}

// insertMarker inserts a row into the console's database that every replica must have.
func insertMarker(t *testing.T, ctx context.Context, a *lab.Host) {
	t.Helper()
	for _, sql := range []string{"CREATE TABLE e2e (x TEXT)", "INSERT INTO e2e VALUES ('kept')"} {
		a.MustRun(ctx, binary, "kubectl", "exec", "-n", "kotsadm", "kotsadm-rqlite-0", "--", "sh", "-c", `echo "`+sql+`" | rqlite -u kotsadm:$RQLITE_PASSWORD`)
	}
	checkReplicaData(t, ctx, a, 0)
}

// checkReplicas verifies that the console's database has three complete replicas, each
// on a different node.
func checkReplicas(t *testing.T, ctx context.Context, a *lab.Host) {
	t.Helper()
	began := time.Now()
	if out, errs, code := a.Run(ctx, binary, "kubectl", "wait", "-n", "kotsadm", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=300s", "statefulset/kotsadm-rqlite"); code != 0 {
		t.Fatalf("%s%s\n%s", out, errs, describeCluster(ctx, a))
	}
	ready := time.Since(began)
	for i := range 3 {
		checkReplicaData(t, ctx, a, i)
	}
	on := strings.Fields(a.MustRun(ctx, binary, "kubectl", "get", "pods", "-n", "kotsadm", "-l", "app=kotsadm-rqlite", "-o", "jsonpath={.items[*].spec.nodeName}"))
	t.Logf("the console's database is on %s: Ready after %.1fs, complete after %.1fs", strings.Join(on, ", "), ready.Seconds(), time.Since(began).Seconds())
	if slices.Sort(on); len(slices.Compact(on)) != 3 {
		t.Errorf("the replicas are on %v", on)
	}
}

// checkReplicaData verifies that one replica has the row of insertMarker on its disk. A
// replica is Ready some seconds before it has data.
func checkReplicaData(t *testing.T, ctx context.Context, a *lab.Host, i int) {
	t.Helper()
	out, errs := "", ""
	for began := time.Now(); time.Since(began) < 2*time.Minute; a.MustRun(ctx, "sleep", "0.5") {
		out, errs, _ = a.Run(ctx, binary, "kubectl", "exec", "-n", "kotsadm", fmt.Sprint("kotsadm-rqlite-", i), "--", "sh", "-c", `wget -qO- "http://127.0.0.1:4001/readyz?sync&timeout=5s" &&
			wget -qO- "http://kotsadm:$RQLITE_PASSWORD@127.0.0.1:4001/db/query?level=none&q=SELECT%20x%20FROM%20e2e"`)
		if strings.Contains(out, "sync ok") && strings.Contains(out, `"kept"`) {
			return
		}
	}
	t.Fatalf("replica %d lacks the row of the first: %s%s\n%s", i, out, errs, describeCluster(ctx, a))
}

// budgetManifest is a Deployment that prefers one node, and a disruption budget that
// allows no eviction of its pods.
const budgetManifest = `{"apiVersion":"v1","kind":"List","items":[
{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"held","namespace":"default"},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"held"}},
 "template":{"metadata":{"labels":{"app":"held"}},"spec":{"terminationGracePeriodSeconds":0,
  "affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":100,"preference":{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"In","values":["NODE"]}]}}]}},
  "containers":[{"name":"c","image":"IMAGE","imagePullPolicy":"Never","command":["sleep","3600"]}]}}}},
{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"held","namespace":"default"},"spec":{"minAvailable":1,"selector":{"matchLabels":{"app":"held"}}}}]}`

// checkDrainAndRemove drains a worker whose pod is protected by a disruption budget, and
// removes the worker.
func checkDrainAndRemove(t *testing.T, ctx context.Context, a, worker *lab.Host) {
	kubectl := func(args ...string) string { return a.MustRun(ctx, append([]string{binary, "kubectl"}, args...)...) }
	if r := runPlinth(t, ctx, a, 2, "node", "drain", worker.Name, "--yes"); r.Error == nil || !strings.Contains(r.Error.Cause, "on-"+worker.Name+" has no controller") {
		t.Errorf("a pod that nothing starts again: %+v", r.Error)
	}
	kubectl("delete", "pod", "on-"+worker.Name, "--now")
	image := kubectl("get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	manifest := strings.NewReplacer("NODE", worker.Name, "IMAGE", image).Replace(budgetManifest)
	kubectlApply(t, ctx, a, manifest)
	kubectl("wait", "--for=condition=Available", "--timeout=60s", "deployment/held")
	drain := a.Start(ctx, lab.Cmd{Args: []string{binary, "-o", "json", "node", "drain", worker.Name, "--yes"}})
	const why = "The disruption budget held needs 1 healthy pods and has 1 currently"
	if !drain.WaitFor(ctx, why) {
		out, errs := drain.Output()
		t.Fatalf("the drain does not report the reason for waiting\n%s\n%s", lastLines(out, 10), lastLines(errs, 10))
	}
	began := time.Now()
	kubectl("delete", "pdb", "held")
	if out, errs, code := drain.Wait(); code != 0 {
		t.Fatalf("drain: exit %d\n%s\n%s", code, lastLines(out, 10), lastLines(errs, 10))
	}
	t.Logf("the drain named the budget and ended %.1fs after it was gone", time.Since(began).Seconds())
	if on := kubectl("get", "pods", "-l", "app=held", "-o", "jsonpath={.items[*].spec.nodeName}"); strings.Contains(on, worker.Name) {
		t.Errorf("its pod is on %s", on)
	}
	kubectl("delete", "deployment", "held", "--wait=false")
	stolen := stealCredentials(t, ctx, worker, a)
	removeNode(t, ctx, a, worker)
	t.Run("its credentials are refused, also once the name is used again", func(t *testing.T) { checkRemovedCredentials(t, ctx, a.ForTest(t), worker.Name, stolen) })
	if r := runPlinth(t, ctx, a, 2, "node", "remove", worker.Name, "--yes"); r.Error == nil || !strings.Contains(r.Error.Cause, "the cluster has no such node") {
		t.Errorf("removed again: %+v", r)
	}
}

// removeNode removes a node and verifies that it is not in the status any more.
func removeNode(t *testing.T, ctx context.Context, a, h *lab.Host) {
	t.Helper()
	runPlinth(t, ctx, a, 0, "node", "remove", h.Name, "--yes")
	checkAuditLine(t, ctx, a, "event=revocation node="+strconv.Quote(h.Name)+` peer=- token=- result="node removed; its credentials are revoked"`)
	v := readStatus(t, ctx, a)
	for _, n := range v.Nodes {
		if n.Name == h.Name {
			t.Errorf("%s is still a node", n.Name)
		}
	}
	for _, m := range v.Etcd {
		if m.Name == h.Name {
			t.Errorf("%s is still a member of etcd", m.Name)
		}
	}
}

// removeLeader removes the controller that is the etcd leader while it serves, and
// returns its name.
func removeLeader(t *testing.T, ctx context.Context, controllers []*lab.Host, worker *lab.Host) string {
	a, victim := controllers[0], findOrMoveLeader(t, ctx, controllers...)
	checkReplicas(t, ctx, a) // a replica that is being created does not count
	asks, stop := context.WithCancel(ctx)
	defer stop()
	client := startAPIClient(asks, worker, asNode)
	began := time.Now()
	a.MustRun(ctx, binary, "kubectl", "delete", "pod", "on-"+victim.Name, "--now")
	removeNode(t, ctx, a, victim)
	a.MustRun(ctx, "sleep", "3")
	gap, failed := client.longestGap(t, began)
	t.Logf("%s, the leader of etcd, was removed: on %s the API was unavailable for %.2fs, %d requests failed", victim.Name, worker.Name, gap.Seconds(), failed)
	if gap > 10*time.Second { // usually 1 to 3 s; checkLeaderLoss has the limit for an unexpected stop
		t.Errorf("the API was unavailable for %s", gap)
	}
	checkStopped(t, ctx, victim)
	return victim.Name
}

// checkStopped verifies that the agent of a removed host stops k0s and the pods, and that the status tells why. Until
// then the API server of a removed controller keeps connections of programs on other nodes, and tells them nothing new.
func checkStopped(t *testing.T, ctx context.Context, h *lab.Host) {
	t.Helper()
	const stopped = "test $(systemctl is-active k0scontroller) = inactive && test $(systemctl is-enabled k0scontroller) = disabled && ! pgrep -x containerd-shim"
	began := time.Now()
	for {
		_, _, code := h.Run(ctx, "sh", "-c", stopped)
		if code == 0 {
			break
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("k0s still runs on %s: %s", h.Name, h.MustRun(ctx, "sh", "-c", "systemctl status --no-pager k0scontroller; journalctl --no-pager -n 30 -u plinth-agent -u plinth-stop-removed-node; true"))
		}
		h.MustRun(ctx, "sleep", "1")
	}
	t.Logf("%s stopped k0s and its pods within %.1fs of its removal", h.Name, time.Since(began).Seconds())
	checkAuditLine(t, ctx, h, "event=removal node="+strconv.Quote(h.Name)+` peer=- token=- result="this host was removed from the cluster by an administrator on a`)
	if out := h.MustRun(ctx, binary, "status"); !strings.Contains(out, "this host was removed from the cluster by an administrator on a") || !strings.Contains(out, "sudo plinth reset node") {
		t.Errorf("status: %s", out)
	}
}

// hasUnstartedMember returns a condition for waitForStatus: etcd has a member with this
// address that has never started.
func hasUnstartedMember(address string) func(clusterStatus) bool {
	return func(v clusterStatus) bool {
		return slices.ContainsFunc(v.Etcd, func(m etcdMember) bool { return m.Name == "" && m.Address == address })
	}
}

// checkRemoveUnstartedMember removes the etcd member of a host that died during its
// join and does not come back.
func checkRemoveUnstartedMember(t *testing.T, ctx context.Context, a *lab.Host) {
	const unused = "10.99.99.99"
	a.MustRun(ctx, "sh", "-c", "curl -sSkf -m 10 "+asEtcd+` -d '{"peerURLs":["https://`+unused+`:2380"]}' https://127.0.0.1:2379/v3/cluster/member/add`)
	if text := a.MustRun(ctx, binary, "status"); !strings.Contains(text, unused+" (never started)") {
		t.Errorf("status: %s", text)
	}
	runPlinth(t, ctx, a, 0, "node", "remove", unused, "--yes")
	if v := readStatus(t, ctx, a); hasUnstartedMember(unused)(v) {
		t.Errorf("the member that never started is still there: %+v", v.Etcd)
	}
}

// checkPowerCutWhileJoining cuts a controller's power during its join, when etcd has
// added it as a member and it has not started. The cluster keeps its quorum, even
// with one controller; the next run of join repairs the rest.
func checkPowerCutWhileJoining(t *testing.T, ctx context.Context, a, h *lab.Host, token string) {
	p := h.Start(ctx, lab.Cmd{Args: []string{binary, "-o", "json", "join", "-"}, Stdin: strings.NewReader(token)})
	// Before k0s starts, so that etcd has not contacted the other members yet; after the connections were checked.
	if !p.WaitFor(ctx, `"step":"request-join","state":"started"`) {
		out, errs := p.Output()
		t.Fatalf("it does not request its admission\n%s\n%s", lastLines(out, 10), lastLines(errs, 10))
	}
	h.MustRun(ctx, "sh", "-c", "iptables -I OUTPUT -p tcp --dport 2380 -j DROP; iptables -I INPUT -p tcp --dport 2380 -j DROP")
	waitForStatus(t, ctx, a, 2*time.Minute, "etcd counts on "+h.Name, hasUnstartedMember(h.IP()))
	h.CutPower()
	p.Kill()
	a.MustRun(ctx, binary, "kubectl", "create", "configmap", "in-the-meantime")
	h.Boot()
}

// checkJoinSurvivesController joins a controller. When it requests its admission, the
// controller that receives the request is killed, and the quorum is lost. That
// controller then restarts, as after a crash.
func checkJoinSurvivesController(t *testing.T, ctx context.Context, door, h *lab.Host) {
	token := createToken(t, ctx, door, "--role", "controller").Result.Token
	began := time.Now()
	p := h.Start(ctx, lab.Cmd{Args: []string{binary, "-o", "json", "join", "-"}, Stdin: strings.NewReader(token)})
	if !p.WaitFor(ctx, `"step":"request-join","state":"started"`) {
		out, errs := p.Output()
		t.Fatalf("it does not request its admission\n%s\n%s", lastLines(out, 10), lastLines(errs, 10))
	}
	door.MustRun(ctx, "sh", "-c", "systemctl kill -s KILL plinth-agent; kill -9 $(pidof k0s etcd kube-apiserver); systemctl restart k0scontroller")
	if out, errs, code := p.Wait(); code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, lastLines(out, 20), lastLines(errs, 20))
	}
	t.Logf("%s joined in %.1fs, though %s was killed meanwhile", h.Name, time.Since(began).Seconds(), door.Name)
}

// recreateClaim is the command with which an administrator recreates a claim whose
// volume was on a removed node; docs/guide/nodes.md has it.
const recreateClaim = `plinth kubectl get pvc -n registry registry -o yaml | sed -E '/volumeName|resourceVersion|uid:|pv\.kubernetes\.io|selected-node/d' | plinth kubectl replace --force -f -`

// checkConsoleNodeLoss stops the node with the console's own files for good. The status
// of another controller must report it, and a removal with --force must start the
// console on another node.
func checkConsoleNodeLoss(t *testing.T, ctx context.Context, gone, a, f *lab.Host) {
	checkReplicas(t, ctx, a) // a removed node may have had a replica, and two incomplete replicas are too many
	gone.CutPower()
	cut := time.Now()
	const why = "its files are only on node a, which is not Ready"
	for out := ""; !strings.Contains(out, why); a.MustRun(ctx, "sleep", "1") {
		if out, _, _ = a.Run(ctx, binary, "status"); time.Since(cut) > 4*time.Minute {
			t.Fatalf("the status has no reason why the console is unavailable: %s", out)
		}
	}
	t.Logf("%.1fs after the power cut the status has the reason why the console is unavailable", time.Since(cut).Seconds())
	if r := runPlinth(t, ctx, a, 2, "node", "remove", gone.Name, "--yes"); r.Error == nil || !strings.Contains(r.Error.Cause, "kotsadmdata-kotsadm-0") {
		t.Errorf("the console's files were deleted without --force: %+v", r.Error)
	}
	began := time.Now()
	runPlinth(t, ctx, a, 0, "node", "remove", gone.Name, "--yes", "--force")
	waitForConsole(t, ctx, began, a, f)
	for i := range 3 { // two are running; the third waits for a node
		if on := a.MustRun(ctx, binary, "kubectl", "get", "pod", "-n", "kotsadm", fmt.Sprint("kotsadm-rqlite-", i), "-o", "jsonpath={.spec.nodeName}"); on != "" {
			checkReplicaData(t, ctx, a, i)
		}
	}
	if docs, err := os.ReadFile("../docs/guide/nodes.md"); err != nil || !strings.Contains(string(docs), recreateClaim) {
		t.Errorf("docs/guide/nodes.md tells another way to a registry: %v", err)
	}
	a.MustRun(ctx, "sh", "-c", recreateClaim)
	a.MustRun(ctx, binary, "kubectl", "wait", "-n", "registry", "--for=condition=Available", "--timeout=180s", "deployment/registry")
}
