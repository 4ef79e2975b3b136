//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/e2e/testapp"
)

// Bundles on the host of the upgrade tests.
const (
	changedBundle = "/srv/changed.bundle"
	brokenBundle  = "/srv/broken.bundle"
	laterBundle   = "/srv/later.delta" // from changedBundle
)

// changedSettings are the replacements in the Installer of changedBundle. The last one lets the API server serve an API that
// the next minor removes.
var changedSettings = []string{"nodePortRange: 80-32767", "nodePortRange: 80-32000", "uiBindPort: 8800", "uiBindPort: 8801",
	"    version: v1.33.8+k0s.1", "    config: {spec: {api: {extraArgs: {runtime-config: admissionregistration.k8s.io/v1beta1=true}}}}\n    version: v1.33.8+k0s.1"}

// payloadWithK0s returns a copy of the payload in which k0s is the script, of another version if one is given.
func payloadWithK0s(t *testing.T, script string, version ...string) string {
	t.Helper()
	p := copyPayload(t)
	for _, manifest := range p.manifests() {
		notes, _ := manifest["annotations"].(map[string]any)
		if notes["org.opencontainers.image.title"] != "k0s" {
			continue
		}
		if len(version) > 0 {
			notes["org.opencontainers.image.version"] = version[0]
		}
		k0s := p.read(manifest)
		layer := k0s["layers"].([]any)[0].(map[string]any)
		packer, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		p.replaceBlob(layer, packer.EncodeAll([]byte(script), nil))
		unpacked := layer["annotations"].(map[string]any)
		unpacked["dev.plinth.uncompressed-digest"], unpacked["dev.plinth.uncompressed-size"] = "sha256:"+sumOf([]byte(script)), fmt.Sprint(len(script))
		p.replace(manifest, k0s)
	}
	p.write()
	return p.dir
}

// hostFiles returns the files that an upgrade may change, with mode, owner and digest, and the state of the units. The
// data of the cluster and the records of runs are left out.
func hostFiles(ctx context.Context, h *lab.Host) map[string]string {
	const script = `find /etc /usr/local /opt /var/lib/plinth -xdev \( -path /var/lib/plinth/volumes -o -path /var/lib/plinth/kots -o -path /var/lib/plinth/kubectl -o -path /var/lib/plinth/agent \
 -o -name 'journal*' -o -name facts.json \) -prune -o \( -type d -printf '%p d%m %U:%G\n' -o -type l -printf '%p l %l\n' -o -type f -printf '%p f%m %U:%G ' -exec sh -c 'sha256sum <"$1"' sh {} \; \)
systemctl list-unit-files --no-legend --no-pager k0s* plinth* | sed 's/^/unit /'; systemctl is-active k0scontroller plinth-agent`
	files := map[string]string{}
	for line := range strings.Lines(h.MustRun(ctx, "sh", "-c", script)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[name] += rest
	}
	return files
}

// checkSameFiles fails for each difference of the host's files.
func checkSameFiles(t *testing.T, before, after map[string]string) {
	t.Helper()
	for name, was := range before {
		if is := after[name]; is != was {
			t.Errorf("%s was %q and is %q", name, was, is)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			t.Errorf("%s is new", name)
		}
	}
}

// TestUpgrade_OneNode upgrades a cluster of one node to a bundle whose Installer differs, with kills in between, and
// takes that and failed upgrades back.
func TestUpgrade_OneNode(t *testing.T) {
	if testing.Short() {
		t.Skip("TestUpgrade_Versions has one case of each kind")
	}
	runParallel(t)
	ctx := timeoutContext(t, 75)
	payload := requireEnv(t, "PLINTH_E2E_PAYLOAD")
	h := startHostWithPlinth(t, "upgrade")
	h.Copy(buildVariant(t, payload, 2, changedSettings...), changedBundle)
	h.Copy(buildVariant(t, payloadWithK0s(t, "#!/bin/sh\necho 'Error: this k0s does not start'\nexit 1\n"), 3), brokenBundle)
	refusals := upgradeRefusals(t, h)
	runPlinth(t, ctx, h, 0, "install", "--bundle", bundle, "--yes")
	before := hostFiles(ctx, h)

	t.Run("what cannot follow is refused", func(t *testing.T) { checkUpgradeRefusals(t, ctx, h.ForTest(t), refusals, before) })
	t.Run("a plan changes nothing", func(t *testing.T) {
		h := h.ForTest(t)
		r := runPlinth(t, ctx, h, 0, "upgrade", "--bundle", changedBundle, "--plan")
		if !slices.ContainsFunc(r.Result.Plan, func(s struct{ Step, State, Why string }) bool { return s.Step == "k0s-upgrade" && s.State == "needed" }) {
			t.Errorf("%+v", r.Result.Plan)
		}
		checkSameFiles(t, before, hostFiles(ctx, h))
	})
	t.Run("a k0s that does not start is rolled back", func(t *testing.T) { checkBrokenK0s(t, ctx, h.ForTest(t), before) })
	if !t.Run("an upgrade that is killed again and again is resumed", func(t *testing.T) { checkKilledUpgrade(t, ctx, h.ForTest(t)) }) {
		t.FailNow()
	}
	t.Run("a second run changes nothing", func(t *testing.T) {
		h := h.ForTest(t)
		start := time.Now()
		if r := runPlinth(t, ctx, h, 0, "upgrade", "--bundle", changedBundle, "--yes"); r.Result.Changed {
			t.Errorf("%+v", r.Result)
		}
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("it took %s", took)
		}
	})
	t.Run("an older release is refused", func(t *testing.T) {
		if r := runPlinth(t, ctx, h.ForTest(t), 6, "upgrade", "--bundle", bundle, "--yes"); !strings.Contains(r.Error.Cause, "already has release 2") {
			t.Errorf("%+v", r.Error)
		}
	})
	t.Run("an object of a removed API is named", func(t *testing.T) { checkRemovedAPI(t, ctx, h.ForTest(t)) })
	t.Run("a finished upgrade is rolled back, also after a kill", func(t *testing.T) { checkKilledRollback(t, ctx, h.ForTest(t), before) })
	t.Run("an install with another bundle is an upgrade, which survives a power cut", func(t *testing.T) {
		h := h.ForTest(t)
		stdout, stderr, code := h.Run(ctx, binary, "install", "--bundle", changedBundle)
		if code != 2 || !strings.Contains(stderr, "--yes") {
			t.Errorf("without --yes: exit %d: %s%s", code, stdout, stderr)
		}
		checkUpgradePowerCut(t, ctx, h)
		checkCluster(t, ctx, h)
	})
	t.Run("a committed upgrade cannot be rolled back", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "upgrade", "--commit", "--yes")
		runPlinth(t, ctx, h, 2, "upgrade", "--rollback", "--yes")
	})
}

// checkCluster verifies that the cluster and the console are up.
func checkCluster(t *testing.T, ctx context.Context, h *lab.Host) {
	t.Helper()
	st := runPlinth(t, ctx, h, 0, "status").Result
	if len(st.Nodes) != 1 || !st.Nodes[0].Ready || st.Console == nil || st.Console.Reason != "" || st.Unfinished != nil {
		t.Errorf("status: %+v, console %+v, unfinished %+v", st.Nodes, st.Console, st.Unfinished)
	}
	for _, a := range st.AddOns {
		if !a.Ready {
			t.Errorf("add-on %s: %s", a.Name, a.Reason)
		}
	}
}

// kill runs a command that is killed at the failpoint. It returns what the command wrote to stderr.
func kill(t *testing.T, ctx context.Context, h *lab.Host, point string, args ...string) string {
	t.Helper()
	_, stderr, code := h.Run(ctx, append([]string{"env", "PLINTH_FAILPOINTS=" + point + "=kill", binary}, args...)...)
	if code == 0 || !strings.Contains(stderr, "failpoint "+point+": this process ends now") {
		t.Errorf("%s was not killed at %s: exit %d: %s", args[0], point, code, lastLines(stderr, 5))
	}
	return stderr
}

func checkBrokenK0s(t *testing.T, ctx context.Context, h *lab.Host, before map[string]string) {
	pods := podIDs(ctx, h)
	start := time.Now()
	r := runPlinth(t, ctx, h, 7, "upgrade", "--bundle", brokenBundle, "--yes")
	if !strings.Contains(r.Error.Cause, "k0s does not start") || !strings.Contains(r.Error.Hint, "the state before the upgrade was restored") {
		t.Errorf("%+v", r.Error)
	}
	t.Logf("rolled back after %.0fs", time.Since(start).Seconds())
	checkSameFiles(t, before, hostFiles(ctx, h))
	checkCluster(t, ctx, h)
	if now := podIDs(ctx, h); now != pods {
		t.Errorf("pods were restarted:\n%s\n%s", pods, now)
	}
}

// podIDs returns the containers of the pods that k0s does not replace by itself.
func podIDs(ctx context.Context, h *lab.Host) string {
	return h.MustRun(ctx, binary, "kubectl", "get", "pods", "-n", "kotsadm", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID}{"\n"}{end}`)
}

func checkKilledUpgrade(t *testing.T, ctx context.Context, h *lab.Host) {
	args := []string{"upgrade", "--bundle", changedBundle, "--yes"}
	for _, point := range []string{"upgrade/snapshot-files:begun", "upgrade/snapshot-data:applied", "upgrade/k0s-upgrade:begun", "upgrade/k0s-upgrade:applied", "upgrade/console-proxy:begun", "upgrade/keep-bundle:applied", "upgrade/receipt:renamed"} {
		kill(t, ctx, h, point, args...)
		if point == "upgrade/k0s-upgrade:begun" {
			if st := runPlinth(t, ctx, h, 0, "status").Result; st.Unfinished == nil || st.Unfinished.Verb != "upgrade" {
				t.Errorf("status: %+v", st.Unfinished)
			}
			if r := runPlinth(t, ctx, h, 2, "install", "--bundle", bundle, "--yes"); !strings.Contains(r.Error.Cause, "upgrade") {
				t.Errorf("%+v", r.Error)
			}
		}
	}
	runPlinth(t, ctx, h, 0, args...)
	checkCluster(t, ctx, h)
	if args := h.MustRun(ctx, "pgrep", "-af", "service-node-port-range"); !strings.Contains(args, "80-32000") {
		t.Errorf("the API server has the old range: %s", args)
	}
}

func checkKilledRollback(t *testing.T, ctx context.Context, h *lab.Host, before map[string]string) {
	h.MustRun(ctx, binary, "kubectl", "create", "configmap", "since-the-upgrade")
	for _, point := range []string{"rollback/rollback-files:applied", "rollback/rollback-etcd:begun", "rollback/rollback-etcd:applied", "rollback/rollback-console:begun"} {
		kill(t, ctx, h, point, "upgrade", "--rollback", "--yes")
	}
	if st := runPlinth(t, ctx, h, 0, "status").Result; st.Unfinished == nil || st.Unfinished.Verb != "rollback" {
		t.Errorf("status: %+v", st.Unfinished)
	}
	runPlinth(t, ctx, h, 0, "upgrade", "--rollback", "--yes")
	checkSameFiles(t, before, hostFiles(ctx, h))
	checkCluster(t, ctx, h)
	if _, _, code := h.Run(ctx, binary, "kubectl", "get", "configmap", "since-the-upgrade"); code == 0 {
		t.Error("the control plane has data from after its snapshot")
	}
}

// versionsHost is a host with a cluster of other versions than the shipped ones.
type versionsHost struct {
	*lab.Host
	console consoleSession
}

// checkVersions verifies which versions of k0s and KOTS a healthy cluster runs.
func (h versionsHost) checkVersions(t *testing.T, ctx context.Context, k0s, kots string) {
	t.Helper()
	st := runPlinth(t, ctx, h.Host, 0, "status").Result
	if st.Versions["k0s"] != k0s || st.Console == nil || st.Console.Version != kots {
		t.Errorf("status: %v, console %+v", st.Versions, st.Console)
	}
	checkCluster(t, ctx, h.Host)
}

// upgrade upgrades to the shipped versions. The console must show the application, and the new version.
func (h versionsHost) upgrade(t *testing.T, ctx context.Context, more ...string) {
	t.Helper()
	start := time.Now()
	runPlinth(t, ctx, h.Host, 0, append([]string{"upgrade", "--bundle", changedBundle, "--yes"}, more...)...)
	t.Logf("upgraded in %.0fs", time.Since(start).Seconds())
	h.checkVersions(t, ctx, "v1.33.8+k0s.1", "1.131.2")
	set := h.MustRun(ctx, binary, "kubectl", "get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", `jsonpath={.spec.template.spec.containers[0].env[?(@.name=="DISABLE_OUTBOUND_CONNECTIONS")].value}`)
	if set != "true" {
		t.Errorf("the console may connect to the internet: %q", set)
	}
	h.MustRun(ctx, binary, "kubectl", "wait", "-A", "--for=condition=Available", "deployment", "--all", "--timeout=2m")
}

// TestUpgrade_Versions installs an older k0s and an older KOTS with an application, upgrades both, and rolls that back,
// with a kill of the upgrade. An upgrade to a k0s that does not start ends as it began.
func TestUpgrade_Versions(t *testing.T) {
	runParallel(t)
	older := requireEnv(t, "PLINTH_E2E_PAYLOAD_OLDER")
	ctx := timeoutContext(t, 75)
	h := versionsHost{Host: startHostWithPlinth(t, "versions")}
	newer := buildVariant(t, requireEnv(t, "PLINTH_E2E_PAYLOAD"), 2)
	h.Copy(newer, changedBundle)
	h.Copy(buildVariant(t, payloadWithK0s(t, "#!/bin/sh\necho 'Error: this k0s does not start'\nexit 1\n"), 3), brokenBundle)
	h.Copy(buildVariant(t, older, 1, "v1.33.8+k0s.1", "v1.33.4+k0s.0", "1.131.2", "1.130.9"), bundle)
	brokenKOTS := ""
	if !testing.Short() {
		brokenKOTS = buildVariant(t, payloadWithImage(t, "docker.io/kotsadm/kotsadm-migrations:v1.131.2", "/no-such-program"), 4)
	}
	license := copyLicense(t, h.Host)
	t.Run("the gate knows the older KOTS", func(t *testing.T) {
		for name, c := range map[string]struct {
			release testapp.Release
			code    int
		}{
			"target below": {testapp.Release{TargetKOTS: "1.130.8"}, 4},
			"target":       {testapp.Release{TargetKOTS: "1.130.9"}, 0},
			"minimum":      {testapp.Release{MinKOTS: "1.130.9"}, 0},
			"above":        {testapp.Release{MinKOTS: "1.131.2"}, 4},
		} {
			t.Run(name, func(t *testing.T) {
				h := h.ForTest(t)
				c.release.VersionLabel, c.release.Cursor = "gate", 1
				stdout, stderr, code := h.Run(ctx, binary, "install", "--plan", "--bundle", bundle, "--license", license, "--app-bundle", copyAppBundle(t, ctx, h, c.release))
				if code != c.code {
					t.Errorf("exit %d\n%s%s", code, lastLines(stdout, 10), lastLines(stderr, 10))
				}
			})
		}
	})
	app := copyAppBundle(t, ctx, h.Host, testapp.Release{VersionLabel: "1.0.0", Cursor: 1, TargetKOTS: "1.130.9"})
	installed := runPlinth(t, ctx, h.Host, 0, "install", "--bundle", bundle, "--license", license, "--app-bundle", app, "--yes")
	h.console = consoleSession{installed.Result.ConsoleURL, installed.Result.Password}
	h.checkVersions(t, ctx, "v1.33.4+k0s.0", "1.130.9")
	before := hostFiles(ctx, h.Host)

	t.Run("a k0s that does not start is rolled back", func(t *testing.T) { checkBrokenK0s(t, ctx, h.ForTest(t), before) })
	if brokenKOTS != "" {
		h.Copy(brokenKOTS, brokenBundle) // in place of the one with the broken k0s
		t.Run("a KOTS that cannot migrate is rolled back", func(t *testing.T) {
			checkBrokenKOTS(t, ctx, versionsHost{h.ForTest(t), h.console}, before)
		})
	}
	notes := kill(t, ctx, h.Host, "upgrade/k0s-upgrade:begun", "upgrade", "--bundle", changedBundle, "--yes")
	if note := "KOTS 1.131.2 is later than the targetKotsVersion of Toy Application, 1.130.9"; !strings.Contains(notes, note) {
		t.Errorf("the deployed application's targetKotsVersion is not noted: %s", lastLines(notes, 40))
	}
	h.upgrade(t, ctx)
	browseConsole(t, h.console, "dashboard", "Dashboard") // the login, the application and its history are as before
	start := time.Now()
	runPlinth(t, ctx, h.Host, 0, "upgrade", "--rollback", "--yes")
	t.Logf("rolled back in %.0fs", time.Since(start).Seconds())
	h.checkVersions(t, ctx, "v1.33.4+k0s.0", "1.130.9")
	checkSameFiles(t, before, hostFiles(ctx, h.Host))
	browseConsole(t, h.console, "dashboard", "Dashboard")
	if testing.Short() {
		return
	}
	t.Run("the script of the newer release upgrades, too", func(t *testing.T) {
		h := versionsHost{h.ForTest(t), h.console}
		h.MustRun(ctx, "mkdir", "-p", "/var/log/plinth")
		if r := publishBundle(t, h.Host, newer).runCurl(t, ctx, h.Host, 0, "--yes -o json"); !r.Result.Changed {
			t.Errorf("%+v", r.Result)
		}
		h.checkVersions(t, ctx, "v1.33.8+k0s.1", "1.131.2")
		runPlinth(t, ctx, h.Host, 0, "upgrade", "--rollback", "--yes")
		h.checkVersions(t, ctx, "v1.33.4+k0s.0", "1.130.9")
	})
	h.MustRun(ctx, "sh", "-c", binary+" -o json upgrade --bundle "+changedBundle+" --plan > /root/plan.json")
	h.upgrade(t, ctx, "--plan-file", "/root/plan.json")
	if r := runPlinth(t, ctx, h.Host, 0, "upgrade", "--bundle", changedBundle, "--yes"); r.Result.Changed {
		t.Errorf("a second run: %+v", r.Result)
	}
	if r := runPlinth(t, ctx, h.Host, 2, "upgrade", "--bundle", changedBundle, "--plan-file", "/root/plan.json", "--yes"); !strings.Contains(r.Error.Cause, "installed was") {
		t.Errorf("the plan of an upgrade that is done: %+v", r.Error)
	}
	const pinned = `k0s ctr -n k8s.io images ls 'labels."io.cri-containerd.pinned"==pinned' -q | grep -c 'kube-proxy:' || true`
	if n := strings.TrimSpace(h.MustRun(ctx, "sh", "-c", pinned)); n != "2" {
		t.Errorf("%s images of kube-proxy are kept before the commit", n)
	}
	runPlinth(t, ctx, h.Host, 0, "upgrade", "--commit", "--yes")
	if n := strings.TrimSpace(h.MustRun(ctx, "sh", "-c", pinned)); n != "1" {
		t.Errorf("%s images of kube-proxy are kept after the commit", n)
	}
	h.checkVersions(t, ctx, "v1.33.8+k0s.1", "1.131.2")
}

// TestInstall_AnotherK0s installs another k0s of the same minor with its own images, from a bundle that was built twice
// from one lock file.
func TestInstall_AnotherK0s(t *testing.T) {
	if testing.Short() {
		t.Skip("TestUpgrade_Versions installs another k0s, too")
	}
	runParallel(t)
	ctx := timeoutContext(t, 30)
	h := versionsHost{Host: startHostWithPlinth(t, "another")}
	payload := requireEnv(t, "PLINTH_E2E_PAYLOAD_K0S")
	built := buildVariant(t, payload, 1, "v1.33.8+k0s.1", "v1.33.6+k0s.0")
	again := built + ".again"
	if err := runLocal(requireEnv(t, "PLINTH_E2E_BINARY"), "bundle", "build", "--installer", filepath.Join(filepath.Dir(built), "installer.yaml"), "--application", "testdata/application.yaml",
		"--source", payload, "--release", "1", "--locked", "--output-file", again); err != nil {
		t.Fatal(err)
	}
	if first, second := indexDigest(t, built), indexDigest(t, again); first != second {
		t.Errorf("one lock file gave the bundles %s and %s", first, second)
	}
	h.Copy(built, bundle)
	runPlinth(t, ctx, h.Host, 0, "install", "--bundle", bundle, "--yes")
	h.checkVersions(t, ctx, "v1.33.6+k0s.0", "1.131.2")
	images := h.MustRun(ctx, binary, "kubectl", "get", "pods", "-n", "kube-system", "-o", `jsonpath={..image}`)
	if !strings.Contains(images, "kube-proxy:v1.33.6") {
		t.Errorf("images of another k0s: %s", images)
	}
}

// indexDigest returns the digest of a bundle.
func indexDigest(t *testing.T, path string) string {
	t.Helper()
	b, err := airgap.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	return b.Digest().String()
}
