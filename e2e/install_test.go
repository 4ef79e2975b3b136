//go:build e2e

package e2e

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// TestInstall_ResumesConvergesAndResets tests the life of a cluster on one host:
// planned, installed with a kill during the install, converged, used, reset, and
// installed again with an application.
func TestInstall_ResumesConvergesAndResets(t *testing.T) {
	runParallel(t)
	ctx := timeoutContext(t, 50)
	h := startHostWithPlinth(t, "life")
	createForeignObjects(ctx, h)
	fresh := h.Baseline(ctx)

	t.Run("a plan lists the steps and changes nothing", func(t *testing.T) {
		h := h.ForTest(t)
		r := runPlinth(t, ctx, h, 0, "install", "--bundle", bundle, "--plan")
		if len(r.Result.Plan) < 10 || r.Result.Plan[0].State != "needed" {
			t.Errorf("plan: %+v", r.Result.Plan)
		}
		checkUnchanged(t, fresh, h.Baseline(ctx))
	})
	t.Run("a failed install is rolled back if requested", func(t *testing.T) { checkRollback(t, ctx, h.ForTest(t), fresh) })
	if !t.Run("an install is resumed after an interrupt, a full disk and a kill during the import", func(t *testing.T) { checkInterruptKillAndResume(t, ctx, h.ForTest(t)) }) {
		t.FailNow()
	}
	t.Run("a second run changes nothing", func(t *testing.T) { checkConverged(t, ctx, h.ForTest(t)) })
	t.Run("a renamed host is refused", func(t *testing.T) { checkRenamed(t, ctx, h.ForTest(t)) })
	t.Run("status reports nodes, add-ons and console", func(t *testing.T) { checkSingleNodeStatus(t, ctx, h.ForTest(t)) })
	t.Run("systemd restricts the agent", func(t *testing.T) { checkAgentRestrictions(t, ctx, h.ForTest(t)) })
	t.Run("pods reach services", func(t *testing.T) { checkPodReachesService(t, ctx, h.ForTest(t)) })
	t.Run("Secrets are encrypted and requests are audited", func(t *testing.T) { checkSecretsEncrypted(t, ctx, h.ForTest(t)) })
	t.Run("only the console and nodes reach the registry and the database", func(t *testing.T) { checkNetworkPolicies(t, ctx, h.ForTest(t)) })
	t.Run("certificates are renewed without restarts of pods", func(t *testing.T) { checkCertificatesRenewed(t, ctx, h.ForTest(t)) })
	t.Run("reset removes everything but the data, then the data", func(t *testing.T) { checkResetKeepsData(t, ctx, h.ForTest(t), fresh) })
	sent := watchTraffic(t, ctx, h)
	if !t.Run("a second install on the same host starts an application", func(t *testing.T) { checkInstallWithApp(t, ctx, h.ForTest(t)) }) {
		t.FailNow()
	}
	t.Run("no packet left the host during the second install", func(t *testing.T) { checkNoTraffic(t, ctx, h.ForTest(t), sent) })
	t.Run("pods reach services again", func(t *testing.T) { checkPodReachesService(t, ctx, h.ForTest(t)) })
	t.Run("the console shows the user's own certificate", func(t *testing.T) { checkOwnCertificate(t, ctx, h.ForTest(t)) })
	t.Run("KOTS treats later releases as the gate predicts", func(t *testing.T) { checkLaterReleases(t, ctx, h.ForTest(t)) })
}

// checkUnchanged fails for every difference between two baselines of a host, except
// for the differences that isExpectedDifference allows.
func checkUnchanged(t *testing.T, before, after lab.Baseline) {
	t.Helper()
	for _, d := range diffBaselines(t, before, after) {
		if !isExpectedDifference(d) {
			t.Errorf("host differs: %s", d)
		}
	}
}

// isExpectedDifference reports whether a run may leave this difference: its logs, and
// its empty lock file.
func isExpectedDifference(d string) bool {
	return strings.Contains(d, "/var/log/plinth") || strings.Contains(d, " /run/plinth.lock f 600") ||
		d == "active units: + network-online.target active" // a target of the boot: once reached, it stays active
}

// consoleSession is the console's URL and password that the first install printed.
type consoleSession struct{ url, password string }

var firstSession consoleSession

// startInstall starts an install in the background and waits until its output contains
// text. env has additional environment variables.
func startInstall(t *testing.T, ctx context.Context, h *lab.Host, text string, env ...string) *lab.Process {
	t.Helper()
	p := h.Start(ctx, lab.Cmd{Args: append(append([]string{"env"}, env...), binary, "-o", "json", "install", "--bundle", bundle, "--yes")})
	if !p.WaitFor(ctx, text) {
		out, errs := p.Output()
		t.Fatalf("the output never contained %s: %s\n%s", text, lastLines(out, 20), lastLines(errs, 20))
	}
	return p
}

func checkInterruptKillAndResume(t *testing.T, ctx context.Context, h *lab.Host) {
	p := startInstall(t, ctx, h, `"step":"images-boot","state":"started"`)
	h.MustRun(ctx, "pkill", "-INT", "-f", binary+" -o json install")
	if stdout, _, code := p.Wait(); code != 130 || !strings.Contains(stdout, "run the same command again") {
		t.Errorf("Ctrl-C: exit %d: %s", code, lastLines(stdout, 3))
	}

	if st := runPlinth(t, ctx, h, 0, "status").Result; st.Installed || st.Unfinished == nil || st.Unfinished.Verb != "install" {
		t.Errorf("status of a half-done host: %+v", st)
	}
	checkRenamed(t, ctx, h)
	checkFullDisk(t, ctx, h)

	// The first run pauses in the middle while the second one starts.
	p = startInstall(t, ctx, h, `"step":"images-rest","state":"progress"`, "PLINTH_FAILPOINTS=install/images-rest:working#5=delay(1m)")
	if r := runPlinth(t, ctx, h, 8, "install", "--bundle", bundle, "--yes"); !strings.Contains(r.Error.Cause, "install, process") {
		t.Errorf("second install at once: %+v", r.Error)
	}
	h.MustRun(ctx, "pkill", "-KILL", "-f", binary+" -o json install")
	if _, _, code := p.Wait(); code == 0 {
		t.Fatal("the run was not killed")
	}
	stdout, stderr, code := h.Run(ctx, "sh", "-c", "cat "+bundle+" | "+binary+" -o json install --bundle - --yes") // the same bundle through a pipe
	if code != 0 {
		t.Fatalf("resume: exit %d\n%s\n%s", code, lastLines(stdout, 30), lastLines(stderr, 30))
	}
	if !strings.Contains(stderr, "resuming the install started at") || !strings.Contains(stderr, "images-rest") {
		t.Errorf("does not say that it resumes, and where:\n%s", stderr)
	}
	r := parseReply(t, stdout)
	if !r.Result.Changed || r.Result.ConsoleURL != "https://"+h.IP()+":8800" || len(r.Result.Password) < 12 {
		t.Errorf("answer: %+v", r.Result)
	}
	for _, e := range r.Events {
		if e.Step == "k0s-start" && e.State != "skipped" {
			t.Errorf("a finished step was repeated: %+v", e)
		}
	}
	firstSession = consoleSession{r.Result.ConsoleURL, r.Result.Password}
	checkPasswordNotStored(t, ctx, h, r.Result.Password)
	browseConsole(t, firstSession, "console", "license")
}

// checkRenamed verifies that install and status name the way back on a host that was
// renamed, while an install is unfinished or after it.
func checkRenamed(t *testing.T, ctx context.Context, h *lab.Host) {
	t.Helper()
	name := strings.TrimSpace(h.MustRun(ctx, "hostname"))
	h.MustRun(ctx, "hostname", "renamed")
	defer h.MustRun(ctx, "hostname", name)
	back := "hostnamectl set-hostname " + name
	if stdout, stderr, code := h.Run(ctx, binary, "install", "--bundle", bundle, "--yes"); code != 5 || !strings.Contains(stderr, back) || strings.Contains(stderr, "node remove") {
		t.Errorf("install: exit %d: %s%s", code, stdout, stderr)
	}
	if stdout, _, code := h.Run(ctx, binary, "status"); code != 0 || !strings.Contains(stdout, back) || strings.Contains(stdout, "node remove") {
		t.Errorf("status: exit %d: %s", code, stdout)
	}
}

// checkPasswordNotStored verifies that no file contains the password and that only root
// can read the logs.
func checkPasswordNotStored(t *testing.T, ctx context.Context, h *lab.Host, password string) {
	t.Helper()
	out, _, code := h.Run(ctx, "grep", "-rlF", "--", password, "/var/log", "/var/lib/plinth", "/etc", "/run/log", "/root")
	if code == 0 {
		t.Errorf("the password is stored in %s", out)
	}
	modes := h.MustRun(ctx, "find", "/var/log/plinth", "-type", "f", "-not", "-perm", "0600")
	if modes != "" {
		t.Errorf("logs that other users can read: %s", modes)
	}
}

// clusterChanges matches differences that a running cluster causes on its own.
var clusterChanges = regexp.MustCompile(`/var/lib/k0s/|/run/k0s/|/var/log/pods/|/var/log/containers/|/var/lib/plinth/volumes/|/var/lib/cni/|/var/log/plinth|/kubepods|^processes|^links|^network namespaces|^mounts`)

func checkConverged(t *testing.T, ctx context.Context, h *lab.Host) {
	r := runPlinth(t, ctx, h, 0, "install", "--bundle", bundle, "--plan")
	for _, p := range r.Result.Plan {
		if p.State != "done" {
			t.Errorf("plan on a converged host: %+v", p)
		}
	}
	before := h.Baseline(ctx)
	begun := time.Now()
	r = runPlinth(t, ctx, h, 0, "install", "--bundle", bundle, "--yes")
	t.Logf("a run on a converged host took %.1fs", time.Since(begun).Seconds())
	if r.Result.Changed || r.Result.Password != "" {
		t.Errorf("a converged host was changed: %+v", r.Result)
	}
	for _, e := range r.Events {
		if e.State != "skipped" {
			t.Errorf("event on a converged host: %+v", e)
		}
	}
	for _, d := range diffBaselines(t, before, h.Baseline(ctx)) {
		if !clusterChanges.MatchString(d) {
			t.Errorf("a converged host was changed: %s", d)
		}
	}
}

func checkSingleNodeStatus(t *testing.T, ctx context.Context, h *lab.Host) {
	r := runPlinth(t, ctx, h, 0, "status").Result
	if !r.Installed || len(r.Nodes) != 1 || !r.Nodes[0].Ready || len(r.AddOns) < 3 || len(r.Warnings) != 0 {
		t.Errorf("status: %+v", r)
	}
	for _, a := range r.AddOns {
		if !a.Ready {
			t.Errorf("add-on %s is not ready: %s", a.Name, a.Reason)
		}
	}
	if r.Console == nil || r.Console.Reason != "" || r.Console.Version != r.Versions["kotsadm"] {
		t.Errorf("console and receipt disagree: %+v, %v", r.Console, r.Versions)
	}
}

// checkAgentRestrictions verifies what docs/guide/security.md says about the agent's unit, and that
// the running agent was started with it.
func checkAgentRestrictions(t *testing.T, ctx context.Context, h *lab.Host) {
	const most = 4.0
	out := h.MustRun(ctx, "systemd-analyze", "security", "--no-pager", "plinth-agent.service")
	m := regexp.MustCompile(`Overall exposure level for plinth-agent\.service: ([0-9.]+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no exposure level: %s", lastLines(out, 3))
	}
	if level, err := strconv.ParseFloat(m[1], 64); err != nil || level > most {
		t.Errorf("exposure level %s, want at most %.1f\n%s", m[1], most, out)
	}
	status := h.MustRun(ctx, "sh", "-c", "cat /proc/$(systemctl show --property=MainPID --value plinth-agent)/status")
	for _, want := range []string{"CapBnd:\t0000000000000404\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"} { // CAP_NET_BIND_SERVICE and CAP_DAC_READ_SEARCH; a filter
		if !strings.Contains(status, want) {
			t.Errorf("the agent's process lacks %q:\n%s", want, status)
		}
	}
	metrics := h.MustRun(ctx, "curl", "-sfS", "http://127.0.0.1:9446/metrics")
	if unread := regexp.MustCompile(`(?m)^plinth_source_success.* 0$`).FindAllString(metrics, -1); len(unread) > 0 || !strings.Contains(metrics, "plinth_admitted_nodes{") {
		t.Errorf("the agent cannot read what its metrics are about: %q\n%s", unread, metrics)
	}
}

// checkPodReachesService runs a pod that resolves a service by name and calls it.
func checkPodReachesService(t *testing.T, ctx context.Context, h *lab.Host) {
	image := h.MustRun(ctx, binary, "kubectl", "get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	h.MustRun(ctx, binary, "kubectl", "delete", "pod", "probe", "--ignore-not-found", "--now")
	// What a pod prints before kubectl has attached to it would be lost, so its log is read.
	h.MustRun(ctx, binary, "kubectl", "run", "probe", "--image="+image, "--image-pull-policy=Never", "--restart=Never",
		"--command", "--", "kubectl", "--server=http://kotsadm.kotsadm.svc.cluster.local:3000", "get", "--raw", "/healthz")
	h.MustRun(ctx, binary, "kubectl", "wait", "pod/probe", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=1m")
	out := h.MustRun(ctx, binary, "kubectl", "logs", "probe")
	if !strings.Contains(out, `"version"`) {
		t.Errorf("the console did not answer a pod: %s", out)
	}
	h.MustRun(ctx, binary, "kubectl", "delete", "pod", "probe", "--now")
}
