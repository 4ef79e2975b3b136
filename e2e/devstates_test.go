//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// devState is a state of k0s before a release that distro builds.
type devState struct {
	payload    string // variable that names its payload
	containerd string // version
}

var devStates = map[string]devState{
	"v1.35.0-dev+k0s.0": {"PLINTH_E2E_PAYLOAD_K0S_1_35", "1.7."},
	"v1.36.0-dev+k0s.0": {"PLINTH_E2E_PAYLOAD_K0S_1_36", "2.2."},
}

// ignoredOnLabHosts are the host preflights that fail on lab hosts: the machine can have control groups version 1, and the drop-in of
// the lab is converted when k0s starts.
const ignoredOnLabHosts = "cgroup-version,containerd-drop-ins"

// withoutPreFlightChecks is a systemd drop-in that starts k0s as its unit does, but after convertLabDropIn and without its own
// checks of the host, one of which refuses control groups version 1 from 1.36 on. Plinth never does so: it is for lab hosts.
const withoutPreFlightChecks = `[Service]
ExecStart=
ExecStartPre=/bin/sh /srv/lab-oom
ExecStart=/bin/sh -c 'eval exec "$$(sed -n s/^ExecStart=//p /etc/systemd/system/k0scontroller.service)" --ignore-pre-flight-checks'
`

// convertLabDropIn is a script that writes the drop-in of the lab for containerd, if there is one, in the format of the
// containerd in k0s: version 3 from k0s 1.36 on.
const convertLabDropIn = `f=/etc/k0s/containerd.d/lab-oom.toml
[ -e $f ] || exit 0
case $(/usr/local/bin/k0s version) in
v1.3[0-5].*) printf '%s\n' 'version = 2' '[plugins."io.containerd.grpc.v1.cri"]' 'restrict_oom_score_adj = true' >$f ;;
*) printf '%s\n' 'version = 3' '[plugins."io.containerd.cri.v1.runtime"]' 'restrict_oom_score_adj = true' >$f ;;
esac
`

// TestInstall_K0sDevelopmentState installs states of later minors of k0s, which cannot be had as releases, with a
// program for tests. The shipped program must refuse them.
func TestInstall_K0sDevelopmentState(t *testing.T) {
	if testing.Short() {
		t.Skip("states of k0s before a release are installed in the long tests only")
	}
	for version := range devStates {
		t.Run(version, func(t *testing.T) {
			ctx := timeoutContext(t, 30)
			if err := runLocal(requireEnv(t, "PLINTH_E2E_BINARY"), "lint", devInstaller(t, version)); err == nil || !strings.Contains(err.Error(), "is a pre-release, which plinth does not install") {
				t.Errorf("the shipped program accepts it: %v", err)
			}
			h := startDevHost(t, ctx)
			h.Copy(buildDevBundle(t, version, 1), bundle)
			h.checkRefusesDropIn(t, ctx, version)
			runPlinth(t, ctx, h.Host, 0, "install", "--bundle", bundle, "--ignore-host-preflight", ignoredOnLabHosts, "--yes")
			h.checkDevState(t, ctx, version)
			if r := runPlinth(t, ctx, h.Host, 0, "install", "--bundle", bundle, "--ignore-host-preflight", ignoredOnLabHosts, "--yes"); r.Result.Changed {
				t.Errorf("a second run: %+v", r.Result)
			}
		})
	}
}

// TestUpgrade_K0sMinor upgrades one minor of Kubernetes, with which containerd 1.7 becomes 2.2, and rolls that back.
func TestUpgrade_K0sMinor(t *testing.T) {
	if testing.Short() {
		t.Skip("states of k0s before a release are installed in the long tests only")
	}
	ctx := timeoutContext(t, 45)
	const older, newer = "v1.35.0-dev+k0s.0", "v1.36.0-dev+k0s.0"
	h := startDevHost(t, ctx)
	h.Copy(buildDevBundle(t, older, 1), bundle)
	h.Copy(buildDevBundle(t, newer, 2), changedBundle)
	runPlinth(t, ctx, h.Host, 0, "install", "--bundle", bundle, "--ignore-host-preflight", ignoredOnLabHosts, "--yes")
	h.checkDevState(t, ctx, older)
	before := hostFiles(ctx, h.Host)
	kubectl := func(args ...string) { h.MustRun(ctx, append([]string{binary, "kubectl"}, args...)...) }
	kubectl("create", "configmap", "before")

	upgrade := []string{"upgrade", "--bundle", changedBundle, "--ignore-host-preflight", ignoredOnLabHosts, "--yes"}
	kill(t, ctx, h.Host, "upgrade/k0s-upgrade:begun", upgrade...)
	start := time.Now()
	runPlinth(t, ctx, h.Host, 0, upgrade...)
	t.Logf("upgraded in %.0fs", time.Since(start).Seconds())
	h.checkDevState(t, ctx, newer)
	kubectl("get", "configmap", "before")
	kubectl("create", "configmap", "since-the-upgrade")
	if r := runPlinth(t, ctx, h.Host, 0, upgrade...); r.Result.Changed {
		t.Errorf("a second run: %+v", r.Result)
	}

	start = time.Now()
	runPlinth(t, ctx, h.Host, 0, "upgrade", "--rollback", "--yes")
	t.Logf("rolled back in %.0fs", time.Since(start).Seconds())
	h.checkDevState(t, ctx, older)
	checkSameFiles(t, before, hostFiles(ctx, h.Host))
	kubectl("get", "configmap", "before")
	if _, _, code := h.Run(ctx, binary, "kubectl", "get", "configmap", "since-the-upgrade"); code == 0 {
		t.Error("the control plane has data of the later minor")
	}
}

// devInstaller writes the Installer of a state of k0s before a release. The machine of the lab can have control groups
// version 1, which kubelet refuses from 1.35 on.
func devInstaller(t *testing.T, version string) string {
	t.Helper()
	return writeInstaller(t, "version: v1.33.8+k0s.1", "config: {spec: {workerProfiles: [{name: default, values: {failCgroupV1: false}}]}}\n    version: "+version)
}

// buildDevBundle builds a bundle with a state of k0s before a release.
func buildDevBundle(t *testing.T, version string, release int) string {
	t.Helper()
	return buildSigned(t, requireEnv(t, "PLINTH_E2E_DEVSTATES"), requireEnv(t, devStates[version].payload), release, devInstaller(t, version))
}

// startDevHost starts a host with the program that installs states of k0s before a release.
func startDevHost(t *testing.T, ctx context.Context) versionsHost {
	t.Helper()
	h := versionsHost{Host: startHostWithPlinth(t, "dev")}
	h.Copy(embedKey(t, requireEnv(t, "PLINTH_E2E_DEVSTATES")), binary)
	h.MustRun(ctx, "sh", "-euc", `mkdir -p "$1"; printf %s "$2" >"$1/lab.conf"; printf %s "$3" >/srv/lab-oom`, "sh", "/etc/systemd/system/k0scontroller.service.d",
		withoutPreFlightChecks, convertLabDropIn)
	return h
}

// checkRefusesDropIn verifies that an install refuses a drop-in for another containerd than that of this k0s, before it changes
// the host.
func (h versionsHost) checkRefusesDropIn(t *testing.T, ctx context.Context, version string) {
	t.Helper()
	const file = "/etc/k0s/containerd.d/mine.toml"
	content := "version = 2\n"
	if strings.HasPrefix(devStates[version].containerd, "1.") {
		content = "version = 3\n[plugins.'io.containerd.grpc.v1.cri']\n"
	}
	h.MustRun(ctx, "sh", "-euc", `mkdir -p "${1%/*}"; printf %s "$2" >"$1"`, "sh", file, content)
	_, stderr, code := h.Run(ctx, binary, "install", "--bundle", bundle, "--ignore-host-preflight", "cgroup-version", "--yes")
	if code != 5 || !strings.Contains(stderr, file+": version ") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	h.MustRun(ctx, "test", "!", "-e", "/usr/local/bin/k0s")
	h.MustRun(ctx, "rm", file)
}

// checkDevState verifies that the cluster is healthy and runs the parts of a state of k0s before a release.
func (h versionsHost) checkDevState(t *testing.T, ctx context.Context, version string) {
	t.Helper()
	h.checkVersions(t, ctx, version, "1.131.2")
	minor := strings.Join(strings.SplitN(version, ".", 3)[:2], ".") // v1.35
	nodes := h.MustRun(ctx, binary, "kubectl", "get", "nodes", "-o", `jsonpath={.items[*].status.nodeInfo.kubeletVersion} {.items[*].status.nodeInfo.containerRuntimeVersion}`)
	images := h.MustRun(ctx, binary, "kubectl", "get", "pods", "-n", "kube-system", "-o", `jsonpath={..image}`)
	if !strings.HasPrefix(nodes, minor+".") || !strings.Contains(nodes, " containerd://"+devStates[version].containerd) || !strings.Contains(images, "kube-proxy:"+minor+".") {
		t.Errorf("kubelet and containerd %s, images %s", nodes, images)
	}
}

// embedKey returns the path of a copy of a program with the public key of the vendor of the shipped bundle.
func embedKey(t *testing.T, program string) string {
	t.Helper()
	d, err := prepareShipment()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(shipmentDir(), "plinth-devstates")
	if err := runLocal(program, "bundle", "embed", "--verify-key", d.key, "--output-file", out); err != nil {
		t.Fatal(err)
	}
	return out
}
