//go:build e2e

package e2e

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// diagnosis is what `plinth diagnose -o json` prints.
type diagnosis struct{ Findings []finding }

type finding struct {
	Rule, Severity string
	Evidence       []string
}

// diagnose returns the findings on a host.
func diagnose(t testing.TB, ctx context.Context, h *lab.Host) (d diagnosis) {
	t.Helper()
	var r struct{ Result *diagnosis }
	r.Result = &d
	if err := json.Unmarshal([]byte(h.MustRun(ctx, binary, "-o", "json", "diagnose")), &r); err != nil {
		t.Fatal(err)
	}
	return d
}

// diagnoseFault is a fault of a host with a running cluster, and the rule that must be found first.
type diagnoseFault struct {
	rule      string
	prepare   string // script
	undo      string // script
	asWarning bool   // everything still works
}

// podFault returns a fault of a pod, with the part of its manifest after "spec:".
func podFault(rule, spec string) diagnoseFault {
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: fault, namespace: default}\nspec: " + spec
	return diagnoseFault{rule: rule, prepare: "echo '" + manifest + "' | plinth kubectl apply -f -", undo: "plinth kubectl delete pod fault -n default --force --grace-period 0 --wait=false"}
}

func diagnoseFaults() []diagnoseFault {
	const stopK0s = "systemctl stop k0scontroller; "
	const startK0s = "; systemctl reset-failed k0scontroller 2>/dev/null; systemctl start k0scontroller"
	return []diagnoseFault{
		{rule: "disk-full", prepare: stopK0s + "fallocate -l $(($(df --output=avail -B1 / | tail -n1)-50000000)) /srv/full", undo: "rm /srv/full" + startK0s},
		{rule: "k0s-not-running", prepare: stopK0s, undo: "true" + startK0s},
		{rule: "port-taken", prepare: stopK0s + occupyPort(6443) + "; systemctl start k0scontroller; sleep 20", undo: releasePort + startK0s},
		{rule: "k0s-config-invalid", prepare: stopK0s + "cp /etc/k0s/k0s.yaml /srv/k0s.yaml; echo 'spec: [' >>/etc/k0s/k0s.yaml; systemctl start k0scontroller; sleep 10",
			undo: "cp /srv/k0s.yaml /etc/k0s/k0s.yaml" + startK0s},
		{rule: "agent-not-running", prepare: "systemctl stop plinth-agent", undo: "systemctl start plinth-agent"},
		{rule: "host-renamed", prepare: "hostname >/srv/name; hostname other-name", undo: "hostname $(cat /srv/name)"},
		{rule: "machine-id-changed", prepare: "cp /etc/machine-id /srv/machine-id; echo d0d1d2d3d4d5d6d7d8d9dadbdcdddedf >/etc/machine-id", undo: "cp /srv/machine-id /etc/machine-id"},
		{rule: "forwarding-off", prepare: "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1"},
		{rule: "packet-filter-flushed", prepare: "sleep 180; iptables-save >/srv/rules; for t in filter nat mangle; do iptables -t $t -F; iptables -t $t -X; done",
			undo: "iptables-restore </srv/rules"},
		{rule: "k0s-not-enabled", prepare: "systemctl disable -q k0scontroller", undo: "systemctl enable -q k0scontroller", asWarning: true},
		podFault("image-name-invalid", `{containers: [{name: c, image: "R/Web"}]}`),
		podFault("image-not-on-node", `{containers: [{name: c, image: registry.example.com/none:1, imagePullPolicy: Never}]}`),
		podFault("image-registry-unreachable", `{containers: [{name: c, image: registry.example.com/none:1}]}`),
		podFault("resources-insufficient", `{containers: [{name: c, image: a, resources: {requests: {memory: 900Gi}}}]}`),
		podFault("no-node-matches", `{nodeSelector: {no: such}, containers: [{name: c, image: a}]}`),
		podFault("volume-not-mounted", `{containers: [{name: c, image: a, volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, secret: {secretName: none}}]}`),
		{rule: "node-cordoned", prepare: "plinth kubectl cordon $(hostname)", undo: "plinth kubectl uncordon $(hostname)", asWarning: true},
		{rule: "webhook-without-server", prepare: `echo '{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"fault"},"webhooks":[{"name":"fault.example.com",` +
			`"admissionReviewVersions":["v1"],"sideEffects":"None","clientConfig":{"service":{"namespace":"default","name":"none"}},"rules":[{"apiGroups":["batch"],"apiVersions":["v1"],"operations":["CREATE"],"resources":["jobs"]}]}]}' | plinth kubectl apply -f -`,
			undo: "plinth kubectl delete validatingwebhookconfiguration fault"},
	}
}

// shortFaults are the faults of a short run: one of the host, one of k0s, and one of a pod.
var shortFaults = []string{"forwarding-off", "k0s-not-running", "image-registry-unreachable"}

// TestDiagnose_NamesFaultsFirst creates a support bundle and faults on a host with a running cluster. Each fault must be the
// first finding.
func TestDiagnose_NamesFaultsFirst(t *testing.T) {
	runParallel(t)
	ctx := timeoutContext(t, 45)
	h := startHostWithPlinth(t, "diagnose")
	password := runPlinth(t, ctx, h, 0, strings.Fields(installArgs+bundle)...).Result.Password
	before := diagnose(t, ctx, h)
	if len(before.Findings) > 0 && before.Findings[0].Severity == "error" {
		t.Errorf("a healthy host: %+v", before)
	}
	t.Run("support-bundle", func(t *testing.T) { checkBundleOfCluster(t, ctx, h.ForTest(t), password) })
	for _, f := range diagnoseFaults() {
		if testing.Short() && !slices.Contains(shortFaults, f.rule) {
			continue
		}
		t.Run(f.rule, func(t *testing.T) {
			h := h.ForTest(t)
			started := time.Now()
			h.MustRun(ctx, "bash", "-euc", f.prepare)
			waitForFinding(t, ctx, h, f, before)
			found := time.Since(started)
			h.MustRun(ctx, "bash", "-euc", f.undo)
			waitUntilHealthy(t, ctx, h)
			t.Logf("found after %.1fs, healthy after %.1fs", found.Seconds(), time.Since(started).Seconds())
		})
	}
}

// waitForFinding waits until the rule of f is the first finding, without the warnings from before it: lab hosts have no time
// server. A busy machine has slow disks, too. It waits at most two minutes: pods fail after a while.
func waitForFinding(t *testing.T, ctx context.Context, h *lab.Host, f diagnoseFault, before diagnosis) {
	t.Helper()
	var d diagnosis
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(3 * time.Second) {
		d = diagnose(t, ctx, h)
		d.Findings = slices.DeleteFunc(d.Findings, func(found finding) bool {
			known := found.Rule == "etcd-slow" || slices.ContainsFunc(before.Findings, func(b finding) bool { return b.Rule == found.Rule })
			return known && found.Severity == "warning"
		})
		if len(d.Findings) > 0 && d.Findings[0].Rule == f.rule && (d.Findings[0].Severity == "warning") == f.asWarning {
			return
		}
	}
	t.Errorf("%+v", d)
}

// waitUntilHealthy waits until no finding is an error.
func waitUntilHealthy(t *testing.T, ctx context.Context, h *lab.Host) {
	t.Helper()
	var d diagnosis
	for end := time.Now().Add(4 * time.Minute); time.Now().Before(end); time.Sleep(3 * time.Second) {
		if d = diagnose(t, ctx, h); len(d.Findings) == 0 || d.Findings[0].Severity != "error" {
			return
		}
	}
	t.Errorf("after the fault: %+v", d)
}

// supportBundle creates a support bundle on a host and returns its files.
func supportBundle(t *testing.T, ctx context.Context, h *lab.Host, args ...string) map[string]string {
	t.Helper()
	const remote = "/srv/support.tar.gz"
	started := time.Now()
	h.MustRun(ctx, append([]string{binary, "support-bundle", "--to", remote}, args...)...)
	if took := time.Since(started); took > time.Minute {
		t.Errorf("it took %s", took)
	}
	local := filepath.Join(t.TempDir(), "support.tar.gz")
	h.Fetch(remote, local)
	h.MustRun(ctx, "rm", remote)
	file, err := os.Open(local)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(header.Name, "/")
		files[name] = string(content)
	}
}

// checkBundle checks that a bundle of one host has files, and no secret.
func checkBundle(t *testing.T, files map[string]string, secrets []string, names ...string) {
	t.Helper()
	checkFiles(t, files, secrets, append(names, "host-collectors/plinth/snapshot.json")...)
}

// checkFiles checks that a bundle has files, and no secret.
func checkFiles(t *testing.T, files map[string]string, secrets []string, names ...string) {
	t.Helper()
	for _, name := range append(names, "version.yaml", "analysis.json") {
		if files[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	for name, content := range files {
		for _, s := range secrets {
			if strings.Contains(content, s) {
				t.Errorf("%s has the secret %q", name, s)
			}
		}
	}
}

// checkBundleOfCluster creates secrets on a host with a running cluster, and checks that a bundle of it has its state and
// none of them. It returns the secrets.
func checkBundleOfCluster(t *testing.T, ctx context.Context, h *lab.Host, password string) (secrets []string) {
	t.Helper()
	keys := strings.Fields(h.MustRun(ctx, "bash", "-euc", "sed -n 2p /var/lib/k0s/pki/ca.key; awk '/client-key-data/ {print $2}' /var/lib/k0s/pki/admin.conf"))
	token := createToken(t, ctx, h, "--role", "worker").Result.Token
	h.MustRun(ctx, "bash", "-euc", "logger -t planted \"$1\"; plinth kubectl create secret generic planted -n default --from-literal=a=Planted0rdinaryValue; "+
		"plinth kubectl create configmap planted -n default --from-literal=a='found Planted0rdinaryValue' --from-literal=DB_PASSWORD=plantedword", "bash", token)
	secrets = append([]string{password, token, "Planted0rdinaryValue", "plantedword"}, keys...)
	self := strings.TrimSpace(h.MustRun(ctx, "hostname"))
	checkBundle(t, supportBundle(t, ctx, h, "--nodes", self), secrets, "cluster-resources/nodes.json", "cluster-resources/pods/kube-system.json", "cluster-resources/configmaps/default.json",
		"cluster-info/cluster_version.json", "host-collectors/journald/k0s.txt", "host-collectors/plinth/journal.json", "helm/releases.json")
	return secrets
}

// TestSupportBundle_OfThreeNodes creates a bundle of two controllers and a worker, and one while the worker is off.
func TestSupportBundle_OfThreeNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("it installs three hosts: make test-long")
	}
	runParallel(t)
	ctx := timeoutContext(t, 30)
	a, b, w := startHostWithPlinth(t, "support1"), startHostWithPlinth(t, "support2"), startHostWithPlinth(t, "support3")
	password := runPlinth(t, ctx, a, 0, strings.Fields(installArgs+bundle)...).Result.Password
	joinHost(t, ctx, b, 0, createToken(t, ctx, a, "--role", "controller").Result.Token)
	joinHost(t, ctx, w, 0, createToken(t, ctx, a, "--role", "worker").Result.Token)
	waitForStatus(t, ctx, a, 2*time.Minute, "all nodes are Ready", allReady(3, 2))

	w.MustRun(ctx, "bash", "-euc", "echo '# found Planted0rdinaryValue' >>/etc/hosts") // the worker does not know that it is a secret
	secrets := checkBundleOfCluster(t, ctx, a, password)
	files := supportBundle(t, ctx, a)
	var names []string
	for _, h := range []*lab.Host{a, b, w} {
		node := strings.TrimSpace(h.MustRun(ctx, "hostname"))
		names = append(names, "host-collectors/plinth/"+node+"/snapshot.json", "host-collectors/journald/"+node+"/plinth-agent.txt", "host-collectors/run-host/"+node+"/ip-route.txt",
			"host-collectors/system/"+node+"/memory.json")
		if left := h.MustRun(ctx, "bash", "-c", "ls /var/lib/plinth/agent/support 2>/dev/null || true"); strings.TrimSpace(left) != "" {
			t.Errorf("%s still has %s", h.Name, left)
		}
		if audit := h.MustRun(ctx, "journalctl", "-t", "plinth-agent", "--no-pager"); (h != a) != strings.Contains(audit, "event=support") {
			t.Errorf("%s: the audit log has %s", h.Name, audit)
		}
	}
	checkFiles(t, files, secrets, append(names, "host-collectors/system/node_list.json", "cluster-resources/custom-resource-definitions.json",
		"support-bundle-specs/kotsadm/secret-plinth-support-bundle.json")...)
	node := strings.TrimSpace(w.MustRun(ctx, "hostname"))
	for name, want := range map[string]string{"plinth/" + node + "/listening.json": "kubelet", "run-host/" + node + "/iptables.txt": "KUBE-"} { // they need capabilities
		if !strings.Contains(files["host-collectors/"+name], want) {
			t.Errorf("%s: %s", name, files["host-collectors/"+name])
		}
	}
	if strings.Contains(files["analysis.json"], "read.only") { // the unit sees the mounts of the host
		t.Error(files["analysis.json"])
	}

	w.MustRun(ctx, "systemctl", "stop", "plinth-agent")
	if files = supportBundle(t, ctx, a); !strings.Contains(files["host-collectors/plinth/nodes.json"], "its agent does not collect") || files["host-collectors/plinth/"+node+"/snapshot.json"] != "" {
		t.Errorf("a worker that does not answer: %s", files["host-collectors/plinth/nodes.json"])
	}
	w.MustRun(ctx, "systemctl", "start", "plinth-agent")
	checkBundle(t, supportBundle(t, ctx, w), secrets[:2]) // of the worker alone
}

// TestSupportBundle_InEveryState creates bundles after failed preflights, of a healthy cluster, and while k0s does not start.
func TestSupportBundle_InEveryState(t *testing.T) {
	if testing.Short() {
		t.Skip("TestDiagnose_NamesFaultsFirst creates a bundle of a running cluster")
	}
	runParallel(t)
	ctx := timeoutContext(t, 25)
	h := startHostWithPlinth(t, "support")
	h.MustRun(ctx, "bash", "-euc", occupyPort(6443))
	runPlinth(t, ctx, h, 5, strings.Fields(installArgs+bundle)...)
	checkBundle(t, supportBundle(t, ctx, h), nil, "host-collectors/plinth/preflights.json")
	h.MustRun(ctx, "bash", "-euc", releasePort)

	password := runPlinth(t, ctx, h, 0, strings.Fields(installArgs+bundle)...).Result.Password
	secrets := checkBundleOfCluster(t, ctx, h, password)

	h.MustRun(ctx, "bash", "-euc", "systemctl stop k0scontroller; cp /etc/k0s/k0s.yaml /srv/; echo 'spec: [' >>/etc/k0s/k0s.yaml; systemctl start k0scontroller || true; sleep 10")
	files := supportBundle(t, ctx, h)
	checkBundle(t, files, secrets, "host-collectors/journald/k0s.txt", "host-collectors/run-host/unit-status.txt")
	if _, ok := files["cluster-resources/nodes.json"]; ok || !strings.Contains(files["analysis.json"], "plinth.k0s.config.invalid") {
		t.Errorf("%s", files["analysis.json"])
	}
}
