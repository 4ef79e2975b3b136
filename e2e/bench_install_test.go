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
	"github.com/plinthdev/plinth/internal/trace"
)

// TestBench_InstallAgainstBareK0s measures a manual installation of bare k0s and
// `plinth install`, one after the other on fresh hosts of one lab, and prints a table.
// It fails only if a cluster does not start: the figures have no limits.
func TestBench_InstallAgainstBareK0s(t *testing.T) {
	ctx := timeoutContext(t, 40)
	bare := measureBareK0s(t, ctx)
	ours := measureInstall(t, ctx)

	var b strings.Builder
	row := func(what, bare, ours, ratio, aim string) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", what, bare, ours, ratio, aim)
	}
	row("what", "bare k0s", "plinth", "ratio", "aim")
	row("---", "---", "---", "---", "---")
	for _, at := range []string{"node Ready", "system pods Ready"} {
		row(at, formatSeconds(bare[at]), formatSeconds(ours[at]), fmt.Sprintf("%.2f", ours[at].Seconds()/bare[at].Seconds()), map[string]string{"node Ready": "1.10", "system pods Ready": "1.00"}[at])
	}
	row("console answers, after the system pods", "", formatSeconds(ours["console"]-ours["system pods Ready"]), "", "60 s")
	row("second run, nothing to do", "", formatSeconds(ours["converged"]), "", "2 s")
	row("plinth version", "", fmt.Sprintf("%d ms, %s", ours["version"].Milliseconds(), ours.formatRSS("version")), "", "50 ms, 40 MB")
	row("journal of the install", "", fmt.Sprintf("%.2f s, %.2f %%", ours["journal"].Seconds(), 100*ours["journal"].Seconds()/ours["install"].Seconds()), "", "1 %")
	row("resident memory of the install", "", ours.formatRSS("install"), "", "300 MB")
	t.Logf("\n%s", b.String())
}

// figures are times since the start of the command; "… rss" is memory in KiB.
type figures map[string]time.Duration

func (f figures) formatRSS(what string) string {
	return fmt.Sprintf("%d MB", int64(f[what+" rss"])*1024/1e6)
}

func formatSeconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// measureBareK0s does what an experienced administrator would do: it copies binary
// and images, and installs and starts the service with the right node address. As
// with Plinth, konnectivity is off: the bundle has no image for it.
func measureBareK0s(t *testing.T, ctx context.Context) figures {
	h := startHostWithPlinth(t, "bare")
	prepareBareK0s(t, ctx, h)
	start := time.Now()
	h.MustRun(ctx, "k0s", "start")
	f := figures{}
	f["node Ready"] = waitUntil(t, ctx, h, start, `k0s kubectl get node --no-headers | grep -qw Ready`)
	f["system pods Ready"] = waitUntil(t, ctx, h, start,
		`test $(k0s kubectl get pods -n kube-system --no-headers | wc -l) -ge 4 && ! k0s kubectl get pods -n kube-system --no-headers | grep -v '1/1 *Running'`)
	return f
}

func measureInstall(t *testing.T, ctx context.Context) figures {
	h := startHostWithPlinth(t, "ours")
	f := figures{}
	start := time.Now()
	out := h.MustRun(ctx, binary, "-o", "json", "install", "--yes", "--bundle", bundle, "--trace", tracePath)
	keepTrace(t, h, out)
	for line := range strings.Lines(out) {
		var e struct {
			Time        time.Time
			Step, State string
		}
		if json.Unmarshal([]byte(line), &e) != nil || (e.State != "done" && e.State != "skipped") {
			continue
		}
		key := map[string]string{"node-ready": "node Ready", "console-answers": "console"}[e.Step]
		f[key] = e.Time.Sub(start)
	}
	f["system pods Ready"] = systemPodsReady(t, ctx, h).Sub(start) // an install looks at them only after the console
	var peak float64
	if _, err := fmt.Sscanf(h.MustRun(ctx, "sh", "-c", "grep -ho 'peak memory [0-9.]* MB' /var/log/plinth/install-*.log"), "peak memory %f MB", &peak); err != nil {
		t.Fatal(err)
	}
	f["install rss"] = time.Duration(peak * 1e6 / 1024)
	journal := readJournalCost(t, ctx, h)
	f["journal"], f["install"] = journal[0], journal[1]
	start = time.Now()
	h.MustRun(ctx, binary, "install", "--yes", "--bundle", bundle)
	f["converged"] = time.Since(start)
	took, held := measureVersion(t, ctx, requireEnv(t, "PLINTH_E2E_BINARY"))
	f["version"], f["version rss"] = took[len(took)/2], time.Duration(held/1024)
	return f
}

// systemPodsReady returns when the last of k0s's own pods became Ready, rounded down to a second by Kubernetes.
func systemPodsReady(t *testing.T, ctx context.Context, h *lab.Host) (last time.Time) {
	t.Helper()
	out := h.MustRun(ctx, binary, "kubectl", "get", "pods", "-n", "kube-system", "-o", `jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].lastTransitionTime} {end}`)
	for _, text := range strings.Fields(out) {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		if at.After(last) {
			last = at
		}
	}
	return last
}

// tracePath is the path of the trace on a host.
const tracePath = "/root/install.trace.json"

// keepTrace prints the critical path of an install and puts its trace beside the bundle. out is what the install printed.
func keepTrace(t *testing.T, h *lab.Host, out string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var doc struct {
		Result struct {
			Trace struct{ CriticalPath []trace.Segment }
		}
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &doc); err != nil || len(doc.Result.Trace.CriticalPath) == 0 {
		t.Fatalf("the result has no critical path: %v", err) // it has the console's password
	}
	file := filepath.Join(filepath.Dir(requireEnv(t, "PLINTH_E2E_BUNDLE")), filepath.Base(tracePath))
	h.Fetch(tracePath, file)
	t.Logf("the trace is in %s\n%s", file, trace.FormatPath("install", doc.Result.Trace.CriticalPath))
}

// readJournalCost returns the time that the journal of the first install took, and
// that of the whole install, from the install's log.
func readJournalCost(t testing.TB, ctx context.Context, h *lab.Host) (took [2]time.Duration) {
	t.Helper()
	var writes int
	var cost, all float64
	line := h.MustRun(ctx, "sh", "-c", "grep -ho 'journal: [0-9]* writes in .* s' /var/log/plinth/install-*.log | head -n1")
	if _, err := fmt.Sscanf(line, "journal: %d writes in %f s of %f s", &writes, &cost, &all); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	t.Logf("the journal took %.3f s of %.1f s (%.2f %%), %d writes", cost, all, 100*cost/all, writes)
	return [2]time.Duration{time.Duration(cost * float64(time.Second)), time.Duration(all * float64(time.Second))}
}
