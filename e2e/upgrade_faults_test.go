//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// upgradeRefusal is an upgrade that is refused before anything changes.
type upgradeRefusal struct {
	name    string
	prepare string   // shell, on the host; "" for nothing
	undo    string   // shell, on the host
	bundle  string   // on the host
	args    []string // beside --bundle and --yes
	code    int
	want    []string // parts of the error
}

// noSource is where the content of a thin bundle would be, if it were needed.
const noSource = "https://192.0.2.1/none"

// buildThin builds a bundle without the content of images and programs: one that is refused needs none. more are arguments of
// bundle build; of two that contradict, the last one holds.
func buildThin(t *testing.T, payload string, release int, installer string, more ...string) string {
	t.Helper()
	return buildSigned(t, requireEnv(t, "PLINTH_E2E_BINARY"), payload, release, installer, append([]string{"--thin"}, more...)...)
}

// payloadAsK0s returns a copy of the payload whose k0s pretends to be another version, and names the images that the
// payload has. It is good for bundles that are refused.
func payloadAsK0s(t *testing.T, version string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(requireEnv(t, "PLINTH_E2E_PAYLOAD"), "index.json"))
	var index struct {
		Manifests []struct{ Annotations map[string]string }
	}
	if err == nil {
		err = json.Unmarshal(raw, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	var images []string
	for _, m := range index.Manifests {
		if ref := m.Annotations["org.opencontainers.image.ref.name"]; strings.HasPrefix(ref, "quay.io/k0sproject/") {
			images = append(images, ref)
		}
	}
	return payloadWithK0s(t, "#!/bin/sh\n[ \"$1\" != airgap ] || echo '"+strings.Join(images, " ")+"'\n", version)
}

// newSigningKey returns the file of a private key that no vendor of these tests has.
func newSigningKey(t *testing.T) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := runLocal("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key); err != nil {
		t.Fatal(err)
	}
	return key
}

// copyApplication writes an Application with a bound to a file of the host and returns its path there.
func copyApplication(t *testing.T, h *lab.Host, bound string) string {
	t.Helper()
	name, value, _ := strings.Cut(bound, ": ")
	local, remote := filepath.Join(t.TempDir(), "application.yaml"), "/srv/"+name+"-"+value+".yaml"
	text := "apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: my-app}\nspec: {title: Toy Application, " + bound + "}\n"
	if err := os.WriteFile(local, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Copy(local, remote)
	return remote
}

// fillDisk is a script that leaves 1.5 GB of the disk; emptyDisk undoes it. The space is only reserved. kubelet, which looks
// every ten seconds, must not see it: it would evict pods and keep others from the node for five minutes.
const (
	fillDisk  = "pkill -STOP -x kubelet; fallocate -l $(($(df --output=avail -B1 / | tail -n1)-1500000000)) /srv/full"
	emptyDisk = "rm -f /srv/full; pkill -CONT -x kubelet"
)

// upgradeRefusals copies bundles that cannot follow the shipped one to the host, and returns their upgrades.
func upgradeRefusals(t *testing.T, h *lab.Host) []upgradeRefusal {
	t.Helper()
	payload := requireEnv(t, "PLINTH_E2E_PAYLOAD")
	copied := func(name, built string) string {
		h.Copy(built, "/srv/"+name+".bundle")
		return "/srv/" + name + ".bundle"
	}
	const version = "v1.33.8+k0s.1"
	older := writeInstaller(t, version, "v1.33.4+k0s.0", "1.131.2", "1.130.9")
	refusals := []upgradeRefusal{
		{name: "another pod CIDR", bundle: copied("moved", buildThin(t, payload, 4, writeInstaller(t, "podCIDR: 10.244.0.0/16", "podCIDR: 10.245.0.0/16"))),
			code: 3, want: []string{"spec.network.podCIDR", "10.244.0.0/16", "10.245.0.0/16"}},
		{name: "another vendor's bundle", bundle: copied("stranger", buildThin(t, payload, 4, writeInstaller(t), "--sign-key", newSigningKey(t))),
			code: 6, want: []string{"not signed with the key"}},
		{name: "lower versions", bundle: copied("lower", buildThin(t, requireEnv(t, "PLINTH_E2E_PAYLOAD_OLDER"), 4, older)),
			code: 3, want: []string{"spec.k0s.version: was " + version + ", is v1.33.4+k0s.0", "spec.kotsadm.version: was 1.131.2, is 1.130.9"}},
		{name: "two minors at once", bundle: copied("minors", buildThin(t, payloadAsK0s(t, "v1.35.6+k0s.0"), 4, writeInstaller(t, version, "v1.35.6+k0s.0"))),
			code: 3, want: []string{"spec.k0s.version", "1.35 in one step", "Kubernetes 1.34 (such as k0s v1.34."}},
	}
	for i := range refusals {
		refusals[i].args = []string{"--source", noSource}
	}
	return append(refusals,
		upgradeRefusal{name: "an application whose minKotsVersion is above", bundle: changedBundle, args: []string{"--application", copyApplication(t, h, "minKotsVersion: 1.200.0")},
			code: 4, want: []string{"minKotsVersion", "1.200.0"}},
		upgradeRefusal{name: "a disk that is almost full", prepare: fillDisk, undo: emptyDisk, bundle: changedBundle, code: 5, want: []string{"disk-"}})
}

// checkUpgradeRefusals verifies that each upgrade is refused for its reason, and that the host stays as it was.
func checkUpgradeRefusals(t *testing.T, ctx context.Context, h *lab.Host, all []upgradeRefusal, before map[string]string) {
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			h := h.ForTest(t)
			if r.prepare != "" {
				h.MustRun(ctx, "sh", "-c", r.prepare)
				defer h.MustRun(ctx, "sh", "-c", r.undo)
			}
			stdout, stderr, code := h.Run(ctx, append([]string{binary, "upgrade", "--yes", "--bundle", r.bundle}, r.args...)...)
			for _, want := range r.want {
				if code != r.code || !strings.Contains(stdout+stderr, want) {
					t.Errorf("exit %d, want %d with %q in:\n%s\n%s", code, r.code, want, lastLines(stdout, 20), lastLines(stderr, 20))
				}
			}
		})
	}
	t.Run("nothing was changed", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 2, "upgrade", "--rollback", "--yes")
		checkSameFiles(t, before, hostFiles(ctx, h))
	})
	t.Run("a targetKotsVersion below is only noted", func(t *testing.T) {
		h := h.ForTest(t)
		_, stderr, code := h.Run(ctx, binary, "upgrade", "--plan", "--bundle", changedBundle, "--application", copyApplication(t, h, "targetKotsVersion: 1.130.9"))
		if code != 0 || !strings.Contains(stderr, "KOTS 1.131.2 is later than the targetKotsVersion of Toy Application, 1.130.9") {
			t.Errorf("exit %d\n%s", code, lastLines(stderr, 20))
		}
	})
}

// checkRemovedAPI verifies that an upgrade is refused while the cluster has an object of an API that the new Kubernetes
// no longer serves. The installed bundle lets the API server serve it, see servedAlphaAPI.
func checkRemovedAPI(t *testing.T, ctx context.Context, h *lab.Host) {
	const policy = `{"apiVersion":"admissionregistration.k8s.io/v1beta1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"toy"},
 "spec":{"failurePolicy":"Ignore","matchConstraints":{"resourceRules":[{"apiGroups":["toy.example"],"apiVersions":["v1"],"operations":["CREATE"],"resources":["toys"]}]},"validations":[{"expression":"true"}]}}`
	const version = "v1.34.9+k0s.0"
	replace := append([]string{"version: v1.33.8+k0s.1", "version: " + version}, changedSettings[:4]...)
	h.Copy(buildThin(t, payloadAsK0s(t, version), 5, writeInstaller(t, replace...)), "/srv/next-minor.bundle")
	kubectlApply(t, ctx, h, policy)
	_, stderr, code := h.Run(ctx, binary, "upgrade", "--yes", "--bundle", "/srv/next-minor.bundle", "--source", noSource)
	for _, want := range []string{"admissionregistration.k8s.io/v1beta1", "Kubernetes 1.34 removes it", "ValidatingAdmissionPolicy toy (written by kubectl"} {
		if code != 5 || !strings.Contains(stderr, want) {
			t.Errorf("exit %d, want 5 with %q in:\n%s", code, want, lastLines(stderr, 20))
		}
	}
	h.MustRun(ctx, binary, "kubectl", "delete", "validatingadmissionpolicy", "toy")
	if _, stderr, _ := h.Run(ctx, binary, "upgrade", "--plan", "--bundle", "/srv/next-minor.bundle", "--source", noSource); strings.Contains(stderr, "removes it") {
		t.Errorf("without the object:\n%s", lastLines(stderr, 20))
	}
}

// checkUpgradePowerCut runs an install that is an upgrade. While it restarts k0s, a second one is refused, which names the
// first, and the host loses its power. The same command resumes it.
func checkUpgradePowerCut(t *testing.T, ctx context.Context, h *lab.Host) {
	args := []string{"install", "--bundle", changedBundle, "--yes"}
	first := h.Start(ctx, lab.Cmd{Args: append([]string{binary, "-o", "json"}, args...)})
	if !first.WaitFor(ctx, `"step":"k0s-upgrade","state":"started"`) {
		out, errs := first.Output()
		t.Fatalf("k0s is not upgraded\n%s\n%s", lastLines(out, 10), lastLines(errs, 10))
	}
	for _, second := range [][]string{{"upgrade", "--bundle", changedBundle, "--yes"}, {"upgrade", "--rollback", "--yes"}} {
		if r := runPlinth(t, ctx, h, 8, second...); !strings.Contains(r.Error.Cause, "upgrade") && !strings.Contains(r.Error.Cause, "install") {
			t.Errorf("%v: %+v", second, r.Error)
		}
	}
	h.CutPower()
	if out, _, code := first.Wait(); code == 0 {
		t.Errorf("the first run had already ended:\n%s", lastLines(out, 5))
	}
	h.Boot()
	start := time.Now()
	if r := runPlinth(t, ctx, h, 0, args...); !r.Result.Changed || !strings.HasSuffix(r.Result.ConsoleURL, ":8801") {
		t.Errorf("%+v", r.Result)
	}
	t.Logf("resumed in %.0fs after the power cut", time.Since(start).Seconds())
}

// checkBrokenKOTS verifies that an upgrade to a KOTS that cannot migrate its database is rolled back, with all data.
func checkBrokenKOTS(t *testing.T, ctx context.Context, h versionsHost, before map[string]string) {
	start := time.Now()
	stdout, stderr, code := h.Run(ctx, binary, "upgrade", "--bundle", brokenBundle, "--yes")
	t.Logf("exit %d after %.0fs", code, time.Since(start).Seconds())
	if code != 7 || !strings.Contains(stderr, "kotsadm") || !strings.Contains(stderr, "the state before the upgrade was restored") {
		t.Fatalf("exit %d\n%s\n%s", code, lastLines(stdout, 20), lastLines(stderr, 20))
	}
	h.checkVersions(t, ctx, "v1.33.4+k0s.0", "1.130.9")
	checkSameFiles(t, before, hostFiles(ctx, h.Host))
	browseConsole(t, h.console, "dashboard", "Dashboard")
}

// payloadWithImage returns a copy of the payload in which containers of an image start another program.
func payloadWithImage(t *testing.T, ref string, entrypoint ...string) string {
	t.Helper()
	p := copyPayload(t)
	for _, manifest := range p.manifests() {
		notes, _ := manifest["annotations"].(map[string]any)
		if notes["org.opencontainers.image.ref.name"] != ref {
			continue
		}
		image := p.read(manifest)
		config := image["config"].(map[string]any)
		content := p.read(config)
		settings, _ := content["config"].(map[string]any)
		if settings == nil {
			settings = map[string]any{}
		}
		settings["Entrypoint"], content["config"] = entrypoint, settings
		p.replace(config, content)
		p.replace(manifest, image)
		p.write()
		return p.dir
	}
	t.Fatalf("the payload does not have %s", ref)
	return ""
}

// payloadCopy is a copy of the payload that shares its blobs.
type payloadCopy struct {
	t     *testing.T
	dir   string
	index map[string]any
}

func copyPayload(t *testing.T) payloadCopy {
	t.Helper()
	p, payload := payloadCopy{t: t, dir: t.TempDir()}, requireEnv(t, "PLINTH_E2E_PAYLOAD")
	blobs := filepath.Join(p.dir, "blobs/sha256")
	err := errors.Join(os.MkdirAll(blobs, 0o700), runLocal("cp", filepath.Join(payload, "oci-layout"), p.dir), runLocal("sh", "-c", `ln -s "$1"/blobs/sha256/* "$2"`, "sh", payload, blobs))
	if err != nil {
		t.Fatal(err)
	}
	p.index = p.readFile(filepath.Join(payload, "index.json"))
	return p
}

// manifests returns the entries of the index, which the caller may change.
func (p payloadCopy) manifests() (all []map[string]any) {
	for _, m := range p.index["manifests"].([]any) {
		all = append(all, m.(map[string]any))
	}
	return all
}

func (p payloadCopy) readFile(path string) (v map[string]any) {
	p.t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// read returns the JSON document that a descriptor names.
func (p payloadCopy) read(descriptor map[string]any) map[string]any {
	p.t.Helper()
	return p.readFile(filepath.Join(p.dir, "blobs/sha256", strings.TrimPrefix(descriptor["digest"].(string), "sha256:")))
}

// replace stores a document, and has the descriptor name it.
func (p payloadCopy) replace(descriptor, document map[string]any) {
	p.t.Helper()
	raw, err := json.Marshal(document)
	if err != nil {
		p.t.Fatal(err)
	}
	p.replaceBlob(descriptor, raw)
}

// replaceBlob stores a blob, and has the descriptor name it.
func (p payloadCopy) replaceBlob(descriptor map[string]any, content []byte) {
	p.t.Helper()
	sum := sumOf(content)
	if err := os.WriteFile(filepath.Join(p.dir, "blobs/sha256", sum), content, 0o600); err != nil {
		p.t.Fatal(err)
	}
	descriptor["digest"], descriptor["size"] = "sha256:"+sum, len(content)
}

// write writes the index.
func (p payloadCopy) write() {
	p.t.Helper()
	raw, err := json.Marshal(p.index)
	if err == nil {
		err = os.WriteFile(filepath.Join(p.dir, "index.json"), raw, 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// sumOf returns the SHA-256 of content.
func sumOf(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }

// recordOf returns the cluster's record of its last upgrade, for conditions and messages.
func recordOf(ctx context.Context, h *lab.Host) string {
	out, errs, _ := h.Run(ctx, binary, "kubectl", "get", "configmap", "-n", "kube-system", "plinth-upgrade", "-o", "jsonpath={.data.upgrade}")
	return out + errs
}

// describeUpgrade returns what is needed to understand a failed upgrade of a cluster: its record, nodes and pods, and the end
// of the logs of each node.
func (c upgradedCluster) describeUpgrade(ctx context.Context) string {
	var b strings.Builder
	fmt.Fprintf(&b, "record: %s\n", recordOf(ctx, c.controllers[0]))
	out, errs, _ := c.controllers[0].Run(ctx, binary, "kubectl", "get", "nodes,pods,poddisruptionbudgets", "-A", "-o", "wide")
	fmt.Fprintf(&b, "%s%s", out, errs)
	for _, h := range c.all() {
		const logs = `cat /var/lib/plinth/node-upgrade.json; echo; df -h / | tail -n1
			journalctl -q --no-pager -n 15 -u plinth-upgrade-node -u plinth-agent; journalctl -q --no-pager -n 8 -u 'k0s*'`
		out, errs, _ := h.Run(ctx, "sh", "-c", logs)
		fmt.Fprintf(&b, "--- %s\n%s%s", h.Name, out, errs)
	}
	return b.String()
}

// copyDelta copies the delta from an older bundle to the host, and removes the newer bundle here.
func copyDelta(t *testing.T, h *lab.Host, older, newer, remote string) {
	t.Helper()
	delta := newer + ".delta"
	if err := errors.Join(runLocal(requireEnv(t, "PLINTH_E2E_BINARY"), "bundle", "diff", older, newer, "--output-file", delta), os.Remove(newer)); err != nil {
		t.Fatal(err)
	}
	h.Copy(delta, remote)
}

// waitForNodeState waits until the record of the upgrade has a node in a state. It asks on the host from.
func (c upgradedCluster) waitForNodeState(t *testing.T, ctx context.Context, from *lab.Host, node, state string) {
	t.Helper()
	for began := time.Now(); ; from.MustRun(ctx, "sleep", "0.5") {
		var record struct {
			Nodes map[string]struct{ State string }
		}
		text := recordOf(ctx, from)
		if _ = json.Unmarshal([]byte(text), &record); record.Nodes[node].State == state {
			return
		}
		if time.Since(began) > 15*time.Minute {
			t.Fatalf("%s is not %s after 15 minutes\n%s", node, state, c.describeUpgrade(ctx))
		}
	}
}

// checkFullDisk verifies that a node without enough disk space is named before anything changes on any node.
func (c upgradedCluster) checkFullDisk(t *testing.T, ctx context.Context) {
	full := c.controllers[2]
	full.MustRun(ctx, "sh", "-c", fillDisk)
	defer full.MustRun(ctx, "sh", "-c", emptyDisk)
	_, stderr, code := c.controllers[0].ForTest(t).Run(ctx, binary, "upgrade", "--bundle", changedBundle, "--yes")
	if code != 5 || !strings.Contains(stderr, "node "+full.Name) || !strings.Contains(stderr, "disk-") {
		t.Errorf("exit %d, and %s is not named with its disk:\n%s\n%s", code, full.Name, lastLines(stderr, 30), c.describeUpgrade(ctx))
	}
	if record := recordOf(ctx, c.controllers[0]); strings.Contains(record, `"to"`) {
		t.Errorf("the cluster has a record: %s", record)
	}
	for _, h := range c.all() {
		paths := "/var/lib/plinth/upgrade"
		if h.Name == full.Name || h.Name == c.controllers[0].Name { // nodes whose checks have passed keep what they have fetched
			paths += " /var/cache/plinth/upgrade"
		}
		if out := h.MustRun(ctx, "sh", "-c", "ls -d "+paths+" 2>/dev/null || true"); out != "" {
			t.Errorf("%s: left behind: %s", h.Name, out)
		}
	}
}

// newK0sFails is a drop-in by which systemd starts only the k0s from before the upgrade on a host.
const newK0sFails = `d=/etc/systemd/system/k0scontroller.service.d; mkdir -p $d
printf '[Service]\nExecStartPre=/bin/sh -c "/usr/local/bin/k0s version | grep -q v1.33.4 || { echo Error: it does not start here; exit 1; }"\n' >$d/99-test.conf
systemctl daemon-reload`

// checkBrokenNode verifies that a node on which the new k0s does not start is restored there and named. The coordinator keeps
// the new version, and the others the old one; the cluster runs. The upgrade warns of a budget, though it does not get as far.
func (c upgradedCluster) checkBrokenNode(t *testing.T, ctx context.Context) {
	a, broken := c.controllers[0].ForTest(t), c.controllers[1].ForTest(t)
	c.holdWorker(t, ctx)
	broken.MustRun(ctx, "sh", "-c", newK0sFails)
	start := time.Now()
	stdout, stderr, code := a.Run(ctx, binary, "upgrade", "--bundle", changedBundle, "--yes")
	t.Logf("exit %d after %.0fs", code, time.Since(start).Seconds())
	for _, want := range []string{"a PodDisruptionBudget allows no eviction now, so the drain waits: default/held", "node " + broken.Name,
		"the state of this node before the upgrade was restored", "upgrade --rollback"} {
		if code != 7 || !strings.Contains(stderr, want) {
			t.Errorf("exit %d, want 7 and %q in:\n%s\n%s", code, want, lastLines(stdout, 20), lastLines(stderr, 40))
		}
	}
	kubelets := strings.Fields(a.MustRun(ctx, binary, "kubectl", "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name}={.status.nodeInfo.kubeletVersion} {end}`))
	for _, h := range c.all() {
		want := "v1.33.4"
		if h.Name == a.Name {
			want = "v1.33.13"
		}
		if !slices.Contains(kubelets, h.Name+"="+want) {
			t.Errorf("%s does not have kubelet %s: %v", h.Name, want, kubelets)
		}
	}
	for name, is := range c.bundles(ctx) { // a receipt is written last
		if is != c.old {
			t.Errorf("the receipt of %s has the bundle %s", name, is)
		}
	}
	waitForStatus(t, ctx, a, 2*time.Minute, "all nodes are Ready", allReady(4, 3))
	const cordoned = `jsonpath={range .items[?(@.spec.unschedulable)]}{.metadata.name} {end}`
	if out := a.MustRun(ctx, binary, "kubectl", "get", "nodes", "-o", cordoned); strings.TrimSpace(out) != "" {
		t.Errorf("still cordoned: %s", out)
	}
	if out := a.MustRun(ctx, binary, "-o", "json", "status"); !strings.Contains(out, broken.Name) {
		t.Errorf("status does not show where the upgrade has stopped: %s", out)
	}
	if t.Failed() {
		t.Log(c.describeUpgrade(ctx))
	}
	broken.MustRun(ctx, "sh", "-c", "rm /etc/systemd/system/k0scontroller.service.d/99-test.conf; systemctl daemon-reload")
}

// holdWorker runs a pod on the worker that a PodDisruptionBudget protects. Its Deployment prefers the worker.
func (c upgradedCluster) holdWorker(t *testing.T, ctx context.Context) {
	t.Helper()
	a := c.controllers[0].ForTest(t)
	image := a.MustRun(ctx, binary, "kubectl", "get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	manifest := strings.NewReplacer("NODE", c.worker.Name, "IMAGE", image, "3600", "36000").Replace(budgetManifest)
	kubectlApply(t, ctx, a, manifest)
	a.MustRun(ctx, binary, "kubectl", "wait", "--for=condition=Available", "--timeout=60s", "deployment/held")
	if on := a.MustRun(ctx, binary, "kubectl", "get", "pods", "-l", "app=held", "-o", "jsonpath={.items[*].spec.nodeName}"); on != c.worker.Name {
		t.Fatalf("its pod is on %s", on)
	}
}

// checkTakeOver kills the command that coordinates an upgrade three times: before the delivery to the other nodes, while a
// node is upgraded, and before the console is upgraded. The same command continues it on that host, then on another
// controller, and on the first one again. In between, a third controller loses its power while it is upgraded, a budget
// blocks the drain of the worker for a while, during which the first host is refused, and the coordinator cannot reach the
// worker for 20 seconds of its upgrade.
func (c upgradedCluster) checkTakeOver(t *testing.T, ctx context.Context) {
	a, b, third := c.controllers[0].ForTest(t), c.controllers[1].ForTest(t), c.controllers[2].ForTest(t)
	defer func() {
		if t.Failed() {
			t.Log(c.describeUpgrade(ctx))
		}
	}()
	kill(t, ctx, a, "upgrade/nodes-deliver:begun", "upgrade", "--bundle", changedBundle, "--yes")
	killed := a.Start(ctx, lab.Cmd{Args: []string{binary, "upgrade", "--bundle", changedBundle, "--yes"}})
	c.waitForNodeState(t, ctx, third, b.Name, "upgrading")
	a.MustRun(ctx, "pkill", "-9", "-x", "plinth")
	if _, _, code := killed.Wait(); code == 0 {
		t.Error("the first upgrade was not killed")
	}
	// Its own part continues without the coordinator. Until that has ended, the host refuses another command.
	b.MustRun(ctx, "timeout", "600", "sh", "-c", "while systemctl -q is-active plinth-upgrade-node; do sleep 1; done")
	second := b.Start(ctx, lab.Cmd{Args: []string{"env", "PLINTH_FAILPOINTS=upgrade/console:begun=kill", binary, "-o", "json", "upgrade", "--bundle", changedBundle, "--yes"}})
	c.waitForNodeState(t, ctx, a, third.Name, "upgrading")
	third.CutPower()
	a.MustRun(ctx, "sleep", "5")
	third.Boot()

	const why = "The disruption budget held needs 1 healthy pods and has 1 currently"
	if !second.WaitFor(ctx, why) {
		out, errs := second.Output()
		t.Fatalf("the drain does not name the budget\n%s\n%s", lastLines(out, 20), lastLines(errs, 20))
	}
	if out, _ := second.Output(); !strings.Contains(out, c.worker.Name+": pod default/held-") {
		t.Errorf("the pod is not named:\n%s", lastLines(out, 5))
	}
	if r := runPlinth(t, ctx, a, 8, "upgrade", "--bundle", changedBundle, "--yes"); !strings.Contains(r.Error.Cause, "node "+b.Name) {
		t.Errorf("the first upgrade is not named: %+v", r.Error)
	}
	a.MustRun(ctx, binary, "kubectl", "delete", "pdb", "held")
	c.waitForNodeState(t, ctx, a, c.worker.Name, "upgrading")
	rule := " INPUT -s " + b.IP() + " -j DROP"
	c.worker.ForTest(t).MustRun(ctx, "sh", "-c", "iptables -I"+rule+"; sleep 20; iptables -D"+rule) // the network between the two
	if out, errs, code := second.Wait(); code == 0 || !strings.Contains(errs, "failpoint") {
		t.Fatalf("it was not killed: exit %d\n%s\n%s", code, lastLines(out, 20), lastLines(errs, 20))
	}
	start := time.Now()
	runPlinth(t, ctx, a, 0, "upgrade", "--bundle", changedBundle, "--yes")
	t.Logf("the first controller finished it in %.0fs", time.Since(start).Seconds())
	c.check(t, ctx, false)
	a.MustRun(ctx, binary, "kubectl", "delete", "deployment", "held", "--wait=false")
}

// checkSkippedNode upgrades the cluster without the worker, which is off. Once it is back, the same command upgrades it, and a
// rollback reaches it, too.
func (c upgradedCluster) checkSkippedNode(t *testing.T, ctx context.Context) {
	a := c.controllers[0].ForTest(t)
	defer func() {
		if t.Failed() {
			t.Log(c.describeUpgrade(ctx))
		}
	}()
	before := c.bundles(ctx)
	off := c.worker.ForTest(t)
	off.CutPower()
	waitForStatus(t, ctx, a, 3*time.Minute, off.Name+" is not Ready", func(v clusterStatus) bool { return !allReady(4, 3)(v) })
	args := []string{"upgrade", "--bundle", laterBundle, "--base", changedBundle, "--yes"}
	if r := runPlinth(t, ctx, a, 5, args...); !strings.Contains(r.Error.Cause, "node "+off.Name) || !strings.Contains(r.Error.Cause, "--skip-node "+off.Name) {
		t.Errorf("%+v", r.Error)
	}
	if r := runPlinth(t, ctx, a, 2, append(slices.Clone(args), "--skip-node", "um9")...); !strings.Contains(r.Error.Cause, "no such node") {
		t.Errorf("an unknown node: %+v", r.Error)
	}
	start := time.Now()
	r := runPlinth(t, ctx, a, 0, append(slices.Clone(args), "--skip-node", off.Name)...)
	t.Logf("three controllers in %.0fs, without the worker", time.Since(start).Seconds())
	if !strings.HasSuffix(r.Result.ConsoleURL, ":8801") {
		t.Errorf("%+v", r.Result)
	}
	off.Boot()
	waitForStatus(t, ctx, a, 3*time.Minute, off.Name+" is back", allReady(4, 3))
	have := c.bundles(ctx)
	for _, h := range c.all() {
		if isNew := have[h.Name] != before[h.Name]; isNew != (h.Name != off.Name) {
			t.Errorf("%s has the bundle %s and had %s", h.Name, have[h.Name], before[h.Name])
		}
	}
	start = time.Now()
	runPlinth(t, ctx, a, 0, args...)
	t.Logf("the worker in %.0fs", time.Since(start).Seconds())
	if have := c.bundles(ctx); have[off.Name] != have[a.Name] {
		t.Errorf("%s has the bundle %s, the others %s", off.Name, have[off.Name], have[a.Name])
	}
	if r := runPlinth(t, ctx, a, 0, args...); r.Result.Changed {
		t.Errorf("a second run: %+v", r.Result)
	}
	runPlinth(t, ctx, a, 0, "upgrade", "--rollback", "--yes")
	for name, is := range c.bundles(ctx) {
		if is != before[name] {
			t.Errorf("after the rollback %s has the bundle %s and had %s", name, is, before[name])
		}
	}
	waitForStatus(t, ctx, a, 2*time.Minute, "all nodes are Ready", allReady(4, 3))
}
