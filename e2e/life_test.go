//go:build e2e

package e2e

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// TestInstall_ResumesConvergesAndResets tests the life of a cluster on one host:
// planned, installed with a kill during the install, converged, used, reset, and
// installed again with an application.
func TestInstall_ResumesConvergesAndResets(t *testing.T) {
	ctx := minutes(t, 40)
	h := upWithPlinth(t, "life")
	placeForeign(ctx, h)
	fresh := h.Baseline(ctx)

	t.Run("a plan lists the steps and changes nothing", func(t *testing.T) {
		h := h.For(t)
		r := plinth(t, ctx, h, 0, "install", "--bundle", bundle, "--plan")
		if len(r.Result.Plan) < 10 || r.Result.Plan[0].State != "needed" {
			t.Errorf("plan: %+v", r.Result.Plan)
		}
		same(t, fresh, h.Baseline(ctx))
	})
	t.Run("a failed install is rolled back if requested", func(t *testing.T) { rollBack(t, ctx, h.For(t), fresh) })
	if !t.Run("an install is resumed after an interrupt, a full disk and a kill during the import", func(t *testing.T) { interruptKillAndResume(t, ctx, h.For(t)) }) {
		t.FailNow()
	}
	t.Run("a second run changes nothing", func(t *testing.T) { converged(t, ctx, h.For(t)) })
	t.Run("status reports nodes, add-ons and console", func(t *testing.T) { status(t, ctx, h.For(t)) })
	t.Run("pods reach services", func(t *testing.T) { podsReachServices(t, ctx, h.For(t)) })
	t.Run("reset removes everything but the data, then the data", func(t *testing.T) { resetKeepingData(t, ctx, h.For(t), fresh) })
	sent := watch(t, ctx, h)
	if !t.Run("a second install on the same host starts an application", func(t *testing.T) { installWithApp(t, ctx, h.For(t)) }) {
		t.FailNow()
	}
	t.Run("no packet left the host during the second install", func(t *testing.T) { nothingLeft(t, ctx, h.For(t), sent) })
	t.Run("pods reach services again", func(t *testing.T) { podsReachServices(t, ctx, h.For(t)) })
	t.Run("the console shows the user's own certificate", func(t *testing.T) { setCertificate(t, ctx, h.For(t)) })
	t.Run("KOTS treats later releases as the gate predicts", func(t *testing.T) { laterReleases(t, ctx, h.For(t)) })
}

// checkUnchanged fails for every difference between two baselines of a host, except
// for the differences that isExpectedDifference allows.
func same(t *testing.T, before, after lab.Baseline) {
	t.Helper()
	for _, d := range lab.Diff(before, after) {
		if !noise(d) {
			t.Errorf("host differs: %s", d)
		}
	}
}

// isExpectedDifference reports whether a run may leave this difference: its logs, and
// its empty lock file.
func noise(d string) bool {
	return strings.Contains(d, "/var/log/plinth") || strings.Contains(d, " /run/plinth.lock f 600") ||
		d == "active units: + network-online.target active" // a target of the boot: once reached, it stays active
}

// consoleSession is the console's URL and password that the first install printed.
type session struct{ url, password string }

var first session

// startInstall starts an install in the background and waits until its output contains
// text. env has additional environment variables.
func start(t *testing.T, ctx context.Context, h *lab.Host, text string, env ...string) *lab.Process {
	t.Helper()
	p := h.Start(ctx, lab.Cmd{Args: append(append([]string{"env"}, env...), binary, "-o", "json", "install", "--bundle", bundle, "--yes")})
	if !p.WaitFor(ctx, text) {
		out, errs := p.Output()
		t.Fatalf("the output never contained %s: %s\n%s", text, tail(out, 20), tail(errs, 20))
	}
	return p
}

func interruptKillAndResume(t *testing.T, ctx context.Context, h *lab.Host) {
	p := start(t, ctx, h, `"step":"images-boot","state":"started"`)
	h.Must(ctx, "pkill", "-INT", "-f", binary+" -o json install")
	if stdout, _, code := p.Wait(); code != 130 || !strings.Contains(stdout, "run the same command again") {
		t.Errorf("Ctrl-C: exit %d: %s", code, tail(stdout, 3))
	}

	if st := plinth(t, ctx, h, 0, "status").Result; st.Installed || st.Unfinished == nil || st.Unfinished.Verb != "install" {
		t.Errorf("status of a half-done host: %+v", st)
	}
	fillDisk(t, ctx, h)

	// The first run pauses in the middle while the second one starts.
	p = start(t, ctx, h, `"step":"images-rest","state":"progress"`, "PLINTH_FAILPOINTS=install/images-rest:working#5=delay(1m)")
	if r := plinth(t, ctx, h, 8, "install", "--bundle", bundle, "--yes"); !strings.Contains(r.Error.Cause, "install, process") {
		t.Errorf("second install at once: %+v", r.Error)
	}
	h.Must(ctx, "pkill", "-KILL", "-f", binary+" -o json install")
	if _, _, code := p.Wait(); code == 0 {
		t.Fatal("the run was not killed")
	}
	stdout, stderr, code := h.Run(ctx, "sh", "-c", "cat "+bundle+" | "+binary+" -o json install --bundle - --yes") // the same bundle through a pipe
	if code != 0 {
		t.Fatalf("resume: exit %d\n%s\n%s", code, tail(stdout, 30), tail(stderr, 30))
	}
	if !strings.Contains(stderr, "resuming the install started at") || !strings.Contains(stderr, "images-rest") {
		t.Errorf("does not say that it resumes, and where:\n%s", stderr)
	}
	r := parse(t, stdout)
	if !r.Result.Changed || r.Result.ConsoleURL != "https://"+h.IP()+":8800" || len(r.Result.Password) < 12 {
		t.Errorf("answer: %+v", r.Result)
	}
	for _, e := range r.Events {
		if e.Step == "k0s-start" && e.State != "skipped" {
			t.Errorf("a finished step was repeated: %+v", e)
		}
	}
	first = session{r.Result.ConsoleURL, r.Result.Password}
	secretStaysSecret(t, ctx, h, r.Result.Password)
	browse(t, first, "console", "license")
}

// checkPasswordNotStored verifies that no file contains the password and that only root
// can read the logs.
func secretStaysSecret(t *testing.T, ctx context.Context, h *lab.Host, password string) {
	t.Helper()
	out, _, code := h.Run(ctx, "grep", "-rlF", "--", password, "/var/log", "/var/lib/plinth", "/etc", "/run/log", "/root")
	if code == 0 {
		t.Errorf("the password is stored in %s", out)
	}
	modes := h.Must(ctx, "find", "/var/log/plinth", "-type", "f", "-not", "-perm", "0600")
	if modes != "" {
		t.Errorf("logs that other users can read: %s", modes)
	}
}

// clusterChanges matches differences that a running cluster causes on its own.
var clusterAtWork = regexp.MustCompile(`/var/lib/k0s/|/run/k0s/|/var/log/pods/|/var/log/containers/|/var/lib/plinth/volumes/|/var/lib/cni/|/var/log/plinth|/kubepods|^processes|^links|^network namespaces|^mounts`)

func converged(t *testing.T, ctx context.Context, h *lab.Host) {
	r := plinth(t, ctx, h, 0, "install", "--bundle", bundle, "--plan")
	for _, p := range r.Result.Plan {
		if p.State != "done" {
			t.Errorf("plan on a converged host: %+v", p)
		}
	}
	before := h.Baseline(ctx)
	begun := time.Now()
	r = plinth(t, ctx, h, 0, "install", "--bundle", bundle, "--yes")
	t.Logf("a run on a converged host took %.1fs", time.Since(begun).Seconds())
	if r.Result.Changed || r.Result.Password != "" {
		t.Errorf("a converged host was changed: %+v", r.Result)
	}
	for _, e := range r.Events {
		if e.State != "skipped" {
			t.Errorf("event on a converged host: %+v", e)
		}
	}
	for _, d := range lab.Diff(before, h.Baseline(ctx)) {
		if !clusterAtWork.MatchString(d) {
			t.Errorf("a converged host was changed: %s", d)
		}
	}
}

func status(t *testing.T, ctx context.Context, h *lab.Host) {
	r := plinth(t, ctx, h, 0, "status").Result
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

// checkPodReachesService runs a pod that resolves a service by name and calls it.
func podsReachServices(t *testing.T, ctx context.Context, h *lab.Host) {
	image := h.Must(ctx, binary, "kubectl", "get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	h.Must(ctx, binary, "kubectl", "delete", "pod", "probe", "--ignore-not-found", "--now")
	out := h.Must(ctx, binary, "kubectl", "run", "probe", "--image="+image, "--image-pull-policy=Never", "--restart=Never", "--attach", "--quiet",
		"--command", "--", "kubectl", "--server=http://kotsadm.kotsadm.svc.cluster.local:3000", "get", "--raw", "/healthz")
	if !strings.Contains(out, `"version"`) {
		t.Errorf("the console did not answer a pod: %s", out)
	}
	h.Must(ctx, binary, "kubectl", "delete", "pod", "probe", "--now")
}
