//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
)

// troubleshootVersion is the version of troubleshoot.sh whose layout bundles have, with the checksum of its module.
const (
	troubleshootVersion = "v0.133.0"
	troubleshootSum     = "h1:ibbjLhsD/CHD65hpB4a0jtAsP4GUaNW5hdBmCxW4c+o="
)

// buildTroubleshoot returns troubleshoot.sh's program, built from its own module: as a dependency of Plinth, it would need
// another Kubernetes (docs/decisions/0047).
func buildTroubleshoot(t *testing.T, ctx context.Context) string {
	t.Helper()
	run := func(args ...string) []byte {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(run("mod", "download", "-json", "github.com/replicatedhq/troubleshoot@"+troubleshootVersion), &module); err != nil {
		t.Fatal(err)
	}
	if module.Sum != troubleshootSum {
		t.Fatalf("the module has the checksum %s", module.Sum)
	}
	program := filepath.Join(t.TempDir(), "support-bundle")
	run("build", "-C", module.Dir, "-mod=readonly", "-trimpath", "-o", program,
		"-tags", "netgo containers_image_ostree_stub exclude_graphdriver_devicemapper exclude_graphdriver_btrfs containers_image_openpgp", "./cmd/troubleshoot")
	return program
}

// analyzers are checks that a bundle of a healthy cluster of one node passes. Each reads another file of it.
const analyzers = `apiVersion: troubleshoot.sh/v1beta2
kind: SupportBundle
metadata: {name: e2e}
spec:
  analyzers:
    - clusterVersion: {checkName: version, outcomes: [{fail: {when: "< 1.30.0", message: old}}, {pass: {message: new}}]}
    - nodeResources: {checkName: nodes, outcomes: [{fail: {when: "count() < 1", message: none}}, {pass: {message: some}}]}
    - deploymentStatus: {checkName: coredns, name: coredns, namespace: kube-system, outcomes: [{fail: {when: "< 1", message: down}}, {pass: {message: up}}]}
    - statefulsetStatus: {checkName: console, name: kotsadm, namespace: kotsadm, outcomes: [{fail: {when: "< 1", message: down}}, {pass: {message: up}}]}
    - configMap: {checkName: settings, configMapName: settings, namespace: default, key: mode, outcomes: [{fail: {message: missing}}, {pass: {message: there}}]}
    - secret: {checkName: login, secretName: login, namespace: default, key: password, outcomes: [{fail: {message: missing}}, {pass: {message: there}}]}
    - textAnalyze: {checkName: log, fileName: console/kotsadm-0/kotsadm.log, regex: '"level"', outcomes: [{pass: {when: "true", message: found}}, {fail: {when: "false", message: not found}}]}
    - textAnalyze: {checkName: note, fileName: note/a.txt, regex: 'ACME-Corporation', outcomes: [{pass: {when: "false", message: removed}}, {fail: {when: "true", message: there}}]}
    - textAnalyze: {checkName: k0s, fileName: host-collectors/journald/k0s.txt, regex: 'k0s', outcomes: [{pass: {when: "true", message: found}}, {fail: {when: "false", message: not found}}]}
  hostAnalyzers:
    - memory: {checkName: memory, outcomes: [{fail: {when: "< 256Mi", message: small}}, {pass: {message: enough}}]}
    - cpu: {checkName: cpus, outcomes: [{fail: {when: "count < 1", message: none}}, {pass: {message: some}}]}
    - diskUsage: {checkName: disk, collectorName: data, outcomes: [{fail: {when: "total < 1Gi", message: small}}, {pass: {message: enough}}]}
`

// collectors is a spec that requests what analyzers read and every bundle does not have.
const collectors = `apiVersion: troubleshoot.sh/v1beta2
kind: SupportBundle
spec:
  collectors:
    - logs: {name: console, namespace: kotsadm, selector: [app=kotsadm]}
    - configMap: {name: settings, namespace: default, key: mode, includeValue: true}
    - secret: {name: login, namespace: default, key: password}
    - data: {name: note, collectorName: a.txt, data: "written by ACME-Corporation"}
    - exec: {namespace: kotsadm, selector: [app=kotsadm], command: [ls]}
  hostCollectors:
    - diskUsage: {collectorName: data, path: /var/lib}
    - journald: {collectorName: agent, units: [plinth-agent.service], lines: 20}
    - copy: {collectorName: hosts, path: /etc/hosts}
---
apiVersion: troubleshoot.sh/v1beta2
kind: Redactor
spec:
  redactors:
    - name: Customers
      removals: {values: [ACME-Corporation]}
`

// TestSupportBundle_ReadByTroubleshoot has troubleshoot.sh analyze a bundle with the specs and redactors of a vendor.
func TestSupportBundle_ReadByTroubleshoot(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds troubleshoot.sh: make test-long")
	}
	runParallel(t)
	ctx := timeoutContext(t, 40)
	program := buildTroubleshoot(t, ctx)
	h := startHostWithPlinth(t, "analyzed")
	runPlinth(t, ctx, h, 0, strings.Fields(installArgs+bundle)...)
	h.MustRun(ctx, "bash", "-euc", "plinth kubectl create configmap settings --from-literal=mode=fast; plinth kubectl create secret generic login --from-literal=password=Planted0rdinaryValue; "+
		"cat >/srv/spec.yaml <<'EOF'\n"+collectors+"EOF")
	out := h.MustRun(ctx, "bash", "-c", "plinth support-bundle --to /srv/support.tar.gz --spec /srv/spec.yaml 2>&1")
	if !strings.Contains(out, "are not carried out: exec;") {
		t.Errorf("it does not name the collector exec: %s", out)
	}
	checkAnalysis(t, ctx, h, program)
	h.MustRun(ctx, "rm", "/srv/support.tar.gz")
	files := supportBundle(t, ctx, h, "--spec", "/srv/spec.yaml")
	checkFiles(t, files, []string{"Planted0rdinaryValue", "ACME-Corporation"}, "console/kotsadm-0/kotsadm.log", "configmaps/default/settings/mode.json", "secrets/default/login/password.json",
		"host-collectors/diskUsage/data.json", "host-collectors/journald/agent.txt", "host-collectors/hosts/hosts")
	if !strings.Contains(files["redactions.json"], "vendor-customers") {
		t.Error("the manifest does not list the vendor's redactor")
	}
	_, stderr, code := h.Run(ctx, "bash", "-c", "echo 'kind: [' >/srv/bad.yaml; plinth support-bundle --to /srv/bad.tar.gz --spec /srv/bad.yaml")
	if code != 3 || !strings.Contains(stderr, "/srv/bad.yaml:2:1: error [yaml-syntax]") {
		t.Errorf("a spec that is wrong: exit %d, %s", code, stderr)
	}
	h.MustRun(ctx, "bash", "-euc", "! test -e /srv/bad.tar.gz")
}

// checkAnalysis has program analyze the bundle on a host, and checks that all analyzers pass.
func checkAnalysis(t *testing.T, ctx context.Context, h *lab.Host, program string) {
	t.Helper()
	dir := t.TempDir()
	local, spec := filepath.Join(dir, "support.tar.gz"), filepath.Join(dir, "analyzers.yaml")
	h.Fetch("/srv/support.tar.gz", local)
	if err := os.WriteFile(spec, []byte(analyzers), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, program, "analyze", "--bundle", local, "--output", "json", spec)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var results []struct {
		IsPass         bool
		Title, Message string
	}
	if err := json.Unmarshal(out, &results); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := strings.Count(analyzers, "checkName:"); len(results) != want {
		t.Errorf("%d results, want %d: %s", len(results), want, out)
	}
	for _, r := range results {
		if !r.IsPass {
			t.Errorf("%s does not pass: %s", r.Title, r.Message)
		}
	}
}
