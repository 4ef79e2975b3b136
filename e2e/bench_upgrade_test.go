//go:build bench

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// newerBundle is the bundle of the upgrade on a host; the installed one is bundle.
const newerBundle = "/srv/newer.bundle"

// The versions of the older and of the shipped payload.
const (
	oldK0s, newK0s   = "v1.33.4+k0s.0", "v1.33.8+k0s.1"
	oldKOTS, newKOTS = "1.130.9", "1.131.2"
	newKubeProxy     = "kube-proxy:v1.33.8"
)

// olderBundle builds the bundle with the older versions.
func olderBundle(t *testing.T) string {
	t.Helper()
	return buildVariant(t, requireEnv(t, "PLINTH_E2E_PAYLOAD_OLDER"), 1, newK0s, oldK0s, newKOTS, oldKOTS)
}

// newBenchHost boots a host with the executable.
func newBenchHost(t *testing.T, name string) *lab.Host {
	t.Helper()
	program, _ := shippedFiles(t)
	h := lab.Up(t, name)
	h.Copy(program, binary)
	return h
}

// TestBench_UpgradeAgainstByHand measures an upgrade of k0s by a patch version and of KOTS by a minor one, on one node: with
// `plinth upgrade`, and by hand with k0s and the kots CLI, one after the other on fresh hosts of one lab. It prints a table,
// and fails only if a cluster does not run the new versions: the figures have no limits.
func TestBench_UpgradeAgainstByHand(t *testing.T) {
	ctx := timeoutContext(t, 50)
	older, newer := olderBundle(t), buildVariant(t, requireEnv(t, "PLINTH_E2E_PAYLOAD"), 2)
	ours := newBenchHost(t, "ours")
	ours.Copy(older, bundle)
	ours.Copy(newer, newerBundle)
	ours.MustRun(ctx, binary, "install", "--yes", "--bundle", bundle)
	plinth := measureUpgrade(t, ctx, ours)
	config := filepath.Join(t.TempDir(), "k0s.yaml")
	ours.Fetch("/etc/k0s/k0s.yaml", config)
	address := ours.IP()
	ours.Down()

	hand := newBenchHost(t, "hand")
	hand.Copy(older, bundle)
	hand.MustRun(ctx, binary, "install", "--yes", "--bundle", bundle)
	hand.Copy(config, "/root/k0s.yaml")
	hand.MustRun(ctx, "sed", "-i", "-e", "s/"+strings.ReplaceAll(address, ".", `\.`)+"/"+hand.IP()+"/g", "-e", `s/\bours\b/hand/g`, "/root/k0s.yaml")
	byHand := measureUpgradeByHand(t, ctx, hand)

	var b strings.Builder
	fmt.Fprintf(&b, "| what | by hand | plinth | ratio | aim |\n| --- | --- | --- | --- | --- |\n")
	for _, row := range []struct{ what, aim string }{{"API away", "1.20"}, {"whole upgrade", "2.00"}} {
		theirs, took := byHand[row.what], plinth[row.what]
		fmt.Fprintf(&b, "| %s | %s | %s | %.2f | %s |\n", row.what, formatSeconds(theirs), formatSeconds(took), took.Seconds()/theirs.Seconds(), row.aim)
	}
	fmt.Fprintf(&b, "| nothing to do | | %s | | 2 s |\n| rollback | | %s | | |\n", formatSeconds(plinth["nothing to do"]), formatSeconds(plinth["rollback"]))
	t.Logf("\n%s", b.String())
}

// measureUpgrade measures `plinth upgrade`, the same once more, and its rollback.
func measureUpgrade(t *testing.T, ctx context.Context, h *lab.Host) figures {
	f := figures{}
	client := startAPIClient(ctx, h, asAdmin)
	start := time.Now()
	out := h.MustRun(ctx, binary, "-o", "json", "upgrade", "--yes", "--bundle", newerBundle)
	f["whole upgrade"] = time.Since(start)
	h.MustRun(ctx, "sleep", "3") // the client's last requests
	var failed int
	f["API away"], failed = client.longestGap(t, start)
	client.Kill()
	t.Logf("plinth: %s; %d requests of the client failed", stepTimes(out, start), failed)
	checkVersionsByHand(t, ctx, h)
	start = time.Now()
	if r := parseReply(t, h.MustRun(ctx, binary, "-o", "json", "upgrade", "--yes", "--bundle", newerBundle)); r.Result.Changed {
		t.Errorf("a second run changes something: %+v", r.Result)
	}
	f["nothing to do"] = time.Since(start)
	start = time.Now()
	h.MustRun(ctx, binary, "upgrade", "--yes", "--rollback")
	f["rollback"] = time.Since(start)
	h.MustRun(ctx, binary, "upgrade", "--yes", "--bundle", newerBundle) // its configuration is what the other host gets
	return f
}

// measureUpgradeByHand does what an experienced administrator would do: it imports all images, replaces the program and the
// configuration, restarts k0s, waits for the node and the system pods, and upgrades the console with the kots CLI. It takes
// neither a snapshot nor a backup.
func measureUpgradeByHand(t *testing.T, ctx context.Context, h *lab.Host) figures {
	h.Copy(allImagesArchive(t, ctx), "/root/images.tar")
	h.Copy(extractProgram(t, ctx, "k0s"), "/root/k0s")
	h.Copy(extractProgram(t, ctx, "kots"), "/root/kots")
	f := figures{}
	client := startAPIClient(ctx, h, asAdmin)
	start := time.Now()
	var done []string
	after := func(what string) {
		done = append(done, fmt.Sprintf("%s %.1fs", what, time.Since(start).Seconds()))
	}
	h.MustRun(ctx, "k0s", "ctr", "-n", "k8s.io", "images", "import", "/root/images.tar")
	after("images imported")
	restart := time.Now()
	const replace = "install -m 755 /root/k0s /usr/local/bin/.k0s && mv /usr/local/bin/.k0s /usr/local/bin/k0s && cp /root/k0s.yaml /etc/k0s/k0s.yaml"
	h.MustRun(ctx, "sh", "-c", replace+" && systemctl restart k0scontroller")
	after("restarted")
	waitUntil(t, ctx, h, start, "k0s kubectl get node --no-headers | grep -w Ready | grep -q "+newNodeVersion)
	after("node Ready")
	f["API away"], _ = client.longestGapBetween(t, restart, time.Now())
	waitUntil(t, ctx, h, start, "k0s kubectl get pods -n kube-system -o jsonpath='{..image}' | grep -q "+newKubeProxy+
		" && ! k0s kubectl get pods -n kube-system --no-headers | grep -v '1/1 *Running'")
	after("system pods Ready")
	h.MustRun(ctx, "env", "KUBECONFIG=/var/lib/k0s/pki/admin.conf", "DISABLE_KOTSADM_OUTBOUND_CONNECTIONS=true",
		"/root/kots", "admin-console", "upgrade", "--namespace", "kotsadm", "--wait-duration", "5m")
	after("console upgraded")
	waitUntil(t, ctx, h, start, "curl -sk -m 2 https://"+h.IP()+":8800/healthz | grep -q "+newKOTS)
	after("console answers")
	f["whole upgrade"] = time.Since(start)
	client.Kill()
	t.Logf("by hand: %s", strings.Join(done, ", "))
	checkVersionsByHand(t, ctx, h)
	return f
}

// newNodeVersion is the version of kubelet after the upgrade, which distro builds into newK0s.
const newNodeVersion = "v1.33.13"

// checkVersionsByHand verifies that a host runs the new versions, without Plinth, whose receipt an upgrade by hand does not
// change.
func checkVersionsByHand(t *testing.T, ctx context.Context, h *lab.Host) {
	t.Helper()
	kubelet := h.MustRun(ctx, "k0s", "kubectl", "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}")
	console := h.MustRun(ctx, "k0s", "kubectl", "get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	if !strings.HasPrefix(kubelet, newNodeVersion) || !strings.HasSuffix(console, newKOTS) {
		t.Errorf("%s: kubelet %s, console %s", h.Name, kubelet, console)
	}
}

// TestBench_UpgradeOfControllers measures how long the API is away for clients on the other nodes while k0s is restarted on
// each of three controllers. It fails if an acknowledged write is lost, or a pod that nothing moves is restarted.
func TestBench_UpgradeOfControllers(t *testing.T) {
	ctx := timeoutContext(t, 50)
	older, newer := olderBundle(t), buildVariant(t, requireEnv(t, "PLINTH_E2E_PAYLOAD"), 2)
	var hosts []*lab.Host
	for _, name := range []string{"c1", "c2", "c3"} {
		hosts = append(hosts, newBenchHost(t, name))
	}
	a := hosts[0]
	a.Copy(older, bundle)
	a.Copy(newer, newerBundle)
	a.MustRun(ctx, binary, "install", "--yes", "--bundle", bundle)
	for _, h := range hosts[1:] {
		token := createToken(t, ctx, a, "--role", "controller").Result.Token
		if out, errs, code := h.Start(ctx, lab.Cmd{Args: []string{binary, "join", "-"}, Stdin: strings.NewReader(token)}).Wait(); code != 0 {
			t.Fatalf("%s: exit %d\n%s\n%s", h.Name, code, lastLines(out, 20), lastLines(errs, 20))
		}
	}
	image := a.MustRun(ctx, binary, "kubectl", "get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	for _, h := range hosts {
		a.MustRun(ctx, binary, "kubectl", "run", "on-"+h.Name, "--image="+image, "--image-pull-policy=Never", "--labels=bench=stays",
			`--overrides={"spec":{"nodeName":"`+h.Name+`"}}`, "--command", "--", "sleep", "36000")
	}
	a.MustRun(ctx, binary, "kubectl", "wait", "--for=condition=Ready", "--timeout=2m", "pod", "-l", "bench=stays")
	const stays = `jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{"\n"}{end}`
	before := a.MustRun(ctx, binary, "kubectl", "get", "pods", "-l", "bench=stays", "-o", stays)

	var clients []apiClient
	for _, h := range hosts {
		clients = append(clients, startAPIClient(ctx, h, asAdmin))
	}
	writer := hosts[2].Start(ctx, lab.Cmd{Args: []string{"bash", "-c", writeScript}})
	start := time.Now()
	out := a.MustRun(ctx, binary, "-o", "json", "upgrade", "--yes", "--bundle", newerBundle)
	took := time.Since(start)
	a.MustRun(ctx, "sleep", "3") // the clients' last requests
	writer.Kill()

	var b strings.Builder
	fmt.Fprintf(&b, "| restarted | seen from | API away | requests that failed | aim |\n| --- | --- | --- | --- | --- |\n")
	for i, restarted := range hosts {
		id := "upgrade-node-" + restarted.Name
		if i == 0 {
			id = "k0s-upgrade"
		}
		from, to := stepSpan(out, id)
		for _, c := range clients {
			gap, failed := c.longestGapBetween(t, from, to)
			aim := "5 s"
			if c.host == restarted {
				aim = ""
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %d | %s |\n", restarted.Name, c.host.Name, formatSeconds(gap), failed, aim)
		}
	}
	t.Logf("three controllers in %s: %s\n%s", formatSeconds(took), stepTimes(out, start), b.String())
	for _, c := range clients {
		c.Kill()
	}
	checkWrites(t, ctx, a, writer)
	if after := a.MustRun(ctx, binary, "kubectl", "get", "pods", "-l", "bench=stays", "-o", stays); after != before {
		t.Errorf("pods that nothing moves were restarted:\n%s\nbefore:\n%s", after, before)
	}
}

// stepSpan returns when a step of a run began and was done.
func stepSpan(stdout, id string) (from, to time.Time) {
	for line := range strings.Lines(stdout) {
		var e struct {
			Time        time.Time
			Step, State string
		}
		if json.Unmarshal([]byte(line), &e) != nil || e.Step != id {
			continue
		}
		if e.State == "started" {
			from = e.Time
		}
		to = e.Time
	}
	return from, to
}

// checkWrites verifies that the cluster has every object whose creation it has acknowledged to writeScript.
func checkWrites(t *testing.T, ctx context.Context, h *lab.Host, writer *lab.Process) {
	t.Helper()
	acknowledged, _ := writer.Output()
	have := map[string]bool{}
	for name := range strings.FieldsSeq(h.MustRun(ctx, binary, "kubectl", "get", "configmaps", "-l", "e2e=ha", "-o", "jsonpath={.items[*].metadata.name}")) {
		have[name] = true
	}
	lost := 0
	for name := range strings.FieldsSeq(acknowledged) {
		if !have[name] {
			lost++
		}
	}
	t.Logf("%d writes were acknowledged, %d of them are lost", len(strings.Fields(acknowledged)), lost)
	if lost > 0 || acknowledged == "" {
		t.Error("acknowledged writes are lost, or there were none")
	}
}
