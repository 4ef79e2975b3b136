//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/testapp"
)

// dashboard is what the console's page of an application gets from its API (KOTS 1.131.2, pkg/handlers/dashboard.go).
type dashboard struct {
	PrometheusAddress string
	Metrics           []struct {
		Title  string
		Series []struct {
			Data []struct{ Timestamp, Value float64 }
		}
	}
}

// lacks returns which of the graphs that KOTS shows by default has no line yet; "" if all have one.
func (d dashboard) lacks() string {
	if len(d.Metrics) != 3 {
		return fmt.Sprintf("there are %d graphs", len(d.Metrics))
	}
	for _, m := range d.Metrics {
		points := 0
		for _, s := range m.Series {
			points = max(points, len(s.Data))
		}
		if points < 2 {
			return fmt.Sprintf("%s has %d series with up to %d points", m.Title, len(m.Series), points)
		}
	}
	return ""
}

// appOfPrometheus is the page of the application in the console, and its path in the API.
const appOfPrometheus = "/app/" + testapp.Slug

// dashboard reads what the page of the application shows.
func (b consoleBrowser) dashboard() (d dashboard) {
	b.t.Helper()
	var app struct {
		Downstream struct{ Cluster struct{ ID string } }
	}
	b.get(appOfPrometheus, &app)
	b.get(appOfPrometheus+"/cluster/"+app.Downstream.Cluster.ID+"/dashboard", &d)
	return d
}

// TestAddOns_ShowGraphsInTheConsole installs Prometheus beside the console and an application, and opens the graphs of the
// application in a browser. An upgrade without Prometheus takes them away, and keeps its volume.
func TestAddOns_ShowGraphsInTheConsole(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes four minutes: make test-long")
	}
	payload := payloadWithAddOns(t)
	runParallel(t)
	ctx := timeoutContext(t, 60)
	h := startHostWithPlinth(t, "prometheus")
	const place, with, without = "\n  # hostPreflights:", "/srv/with.bundle", "/srv/without.bundle"
	h.Copy(buildVariant(t, payload, 2, place, "\n  prometheus: {version: 3.16.0, retention: 2d, retentionSize: 1GB}"+place), with)
	h.Copy(buildVariant(t, payload, 3), without)
	license := copyLicense(t, h)
	app := copyAppBundle(t, ctx, h, testapp.Release{VersionLabel: "1.0.0", Cursor: 1, TargetKOTS: newKOTSVersion})
	fresh := h.Baseline(ctx)

	start := time.Now()
	installed := runPlinth(t, ctx, h, 0, "install", "--bundle", with, "--license", license, "--app-bundle", app, "--yes").Result
	t.Logf("installed after %.0fs", time.Since(start).Seconds())
	checkCluster(t, ctx, h)
	b := logIn(t, consoleSession{installed.ConsoleURL, installed.Password}, "graphs", 20*time.Minute)
	b.waitFor("page after the login", `location.pathname != "/" && location.pathname != "/secure-console"`, pageLimit)
	if !t.Run("the page shows a line in each graph", func(t *testing.T) {
		b := b
		b.t = t
		d := b.dashboard()
		for end := time.Now().Add(6 * time.Minute); d.lacks() != "" && time.Now().Before(end); time.Sleep(5 * time.Second) {
			d = b.dashboard()
		}
		if why := d.lacks(); why != "" || d.PrometheusAddress != "http://prometheus.prometheus.svc.cluster.local:9090" {
			t.Fatalf("with %s, %s: %+v", d.PrometheusAddress, why, d.Metrics)
		}
		b.open(appOfPrometheus)
		for _, graph := range []string{"disk-usage", "cpu-usage", "memory-usage"} {
			b.waitFor("line in the graph "+graph, fmt.Sprintf(`[...document.querySelectorAll('[data-testid="graph-%s"] path.rv-xy-plot__series--line')]
				.some(e => /[LC]/.test(e.getAttribute("d")))`, graph), pageLimit)
		}
		b.screenshot("")
	}) {
		return
	}
	t.Run("an upgrade removes Prometheus and keeps its volume", func(t *testing.T) {
		h, b := h.ForTest(t), b
		b.t = t
		runPlinth(t, ctx, h, 0, "upgrade", "--bundle", without, "--yes")
		checkCluster(t, ctx, h)
		if d := b.dashboard(); d.PrometheusAddress != "" || len(d.Metrics) > 0 {
			t.Errorf("the console has %+v", d)
		}
		if got := strings.TrimSpace(h.MustRun(ctx, binary, "kubectl", "get", "pods,pvc", "-n", "prometheus", "-o", "name")); got != "persistentvolumeclaim/prometheus" {
			t.Errorf("the namespace has %q", got)
		}
	})
	t.Run("a reset leaves nothing", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "reset", "cluster", "--cluster", "my-app", "--delete-data", "--yes")
		checkUnchanged(t, fresh, h.Baseline(ctx))
	})
}
