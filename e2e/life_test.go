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

// TestLife is a cluster's life on one host: planned, installed with a kill in
// the middle, found converged, used, taken back, installed again with an
// application.
func TestLife(t *testing.T) {
	ctx := minutes(t, 40)
	h := upWithPlinth(t, "life")
	placeForeign(ctx, h)
	fresh := h.Baseline(ctx)

	t.Run("a plan says what will be done and changes nothing", func(t *testing.T) {
		h := h.For(t)
		r := plinth(t, ctx, h, 0, "install", "--bundle", bundle, "--plan")
		if len(r.Result.Plan) < 10 || r.Result.Plan[0].State != "needed" {
			t.Errorf("plan: %+v", r.Result.Plan)
		}
		same(t, fresh, h.Baseline(ctx))
	})
	t.Run("an install that fails takes itself back when asked to", func(t *testing.T) { rollBack(t, ctx, h.For(t), fresh) })
	if !t.Run("an install stopped by a full disk, interrupted, then killed in the middle of the import, is resumed", func(t *testing.T) { interruptKillAndResume(t, ctx, h.For(t)) }) {
		t.FailNow()
	}
	t.Run("a second run finds nothing to do", func(t *testing.T) { converged(t, ctx, h.For(t)) })
	t.Run("status tells what is there", func(t *testing.T) { status(t, ctx, h.For(t)) })
	t.Run("pods reach services", func(t *testing.T) { podsReachServices(t, ctx, h.For(t)) })
	t.Run("reset takes all of it back but the data, then the data", func(t *testing.T) { resetKeepingData(t, ctx, h.For(t), fresh) })
	sent := watch(t, ctx, h)
	if !t.Run("a second install on the same host brings up an application", func(t *testing.T) { installWithApp(t, ctx, h.For(t)) }) {
		t.FailNow()
	}
	t.Run("in all that time nothing tried to leave the host", func(t *testing.T) { nothingLeft(t, ctx, h.For(t), sent) })
	t.Run("pods reach services again", func(t *testing.T) { podsReachServices(t, ctx, h.For(t)) })
	t.Run("the console shows the user's own certificate", func(t *testing.T) { setCertificate(t, ctx, h.For(t)) })
	t.Run("KOTS judges later releases as the gate foretells", func(t *testing.T) { laterReleases(t, ctx, h.For(t)) })
}

// same fails with every difference between two looks at a host, but for what a
// run may leave: its logs, and the file of its lock, which is empty.
func same(t *testing.T, before, after lab.Baseline) {
	t.Helper()
	for _, d := range lab.Diff(before, after) {
		if !noise(d) {
			t.Errorf("host differs: %s", d)
		}
	}
}

// noise is what a run may leave.
func noise(d string) bool {
	return strings.Contains(d, "/var/log/plinth") || strings.Contains(d, " /run/plinth.lock f 600") ||
		d == "active units: + network-online.target active" // a milestone of the boot: reached once, it stays
}

// session is what the first install printed.
type session struct{ url, password string }

var first session

// start begins an install in the background and waits until it says text. env
// is what its environment has besides.
func start(t *testing.T, ctx context.Context, h *lab.Host, text string, env ...string) *lab.Process {
	t.Helper()
	p := h.Start(ctx, lab.Cmd{Args: append(append([]string{"env"}, env...), binary, "-o", "json", "install", "--bundle", bundle, "--yes")})
	if !p.WaitFor(ctx, text) {
		out, errs := p.Output()
		t.Fatalf("it never said %s: %s\n%s", text, tail(out, 20), tail(errs, 20))
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

	// It stays in the middle while the second one looks.
	p = start(t, ctx, h, `"step":"images-rest","state":"progress"`, "PLINTH_FAILPOINTS=install/images-rest:working#5=delay(1m)")
	if r := plinth(t, ctx, h, 8, "install", "--bundle", bundle, "--yes"); !strings.Contains(r.Error.Cause, "install, process") {
		t.Errorf("second install at once: %+v", r.Error)
	}
	h.Must(ctx, "pkill", "-KILL", "-f", binary+" -o json install")
	if _, _, code := p.Wait(); code == 0 {
		t.Fatal("the run was not killed")
	}
	stdout, stderr, code := h.Run(ctx, "sh", "-c", "cat "+bundle+" | "+binary+" -o json install --bundle - --yes") // it is the same bundle
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

// secretStaysSecret looks for the password where it must not be.
func secretStaysSecret(t *testing.T, ctx context.Context, h *lab.Host, password string) {
	t.Helper()
	out, _, code := h.Run(ctx, "grep", "-rlF", "--", password, "/var/log", "/var/lib/plinth", "/etc", "/run/log", "/root")
	if code == 0 {
		t.Errorf("the password stands in %s", out)
	}
	modes := h.Must(ctx, "find", "/var/log/plinth", "-type", "f", "-not", "-perm", "0600")
	if modes != "" {
		t.Errorf("logs that others can read: %s", modes)
	}
}

// clusterAtWork is what a running cluster changes by itself.
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

// podsReachServices runs a pod that finds a service by name and calls it.
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
