//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
)

// Bundles with charts on the host of TestCharts.
const (
	chartsBundle   = "/srv/charts.bundle"
	changedCharts  = "/srv/changed-charts.bundle"
	droppedCharts  = "/srv/dropped-charts.bundle"
	failingCharts  = "/srv/failing-charts.bundle"
	pendingCharts  = "/srv/pending-charts.bundle"
	exampleChart   = "../internal/charts/testdata/hello"
	imageOfPayload = "docker.io/library/nginx:1.22.1"  // that of the console's proxy: the payload has it
	otherImage     = "docker.io/kotsadm/rqlite:10.2.7" // that of the console's database
)

// buildWithCharts builds a bundle of the repository's Installer with these charts, beside copies of the example chart.
func buildWithCharts(t *testing.T, release int, charts string) string {
	t.Helper()
	shippedFiles(t)
	d, err := prepareShipment()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(shipmentDir(), "charts")
	if err == nil {
		err = os.CopyFS(filepath.Join(dir, "charts", "hello"), os.DirFS(exampleChart))
	}
	if err != nil {
		t.Fatal(err)
	}
	out, installer := filepath.Join(dir, "bundle"), filepath.Join(dir, "installer.yaml")
	if err := os.WriteFile(installer, append(raw, []byte("\n  charts:\n"+charts)...), 0o600); err != nil {
		t.Fatal(err)
	}
	err = runLocal(requireEnv(t, "PLINTH_E2E_BINARY"), "bundle", "build", "--installer", installer, "--application", "testdata/application.yaml",
		"--source", requireEnv(t, "PLINTH_E2E_PAYLOAD"), "--sign-key", privateKey(d), "--release", fmt.Sprint(release), "--output-file", out)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// chartEntry returns an entry of spec.charts for the example chart, whose programs are those of imageOfPayload.
func chartEntry(name, greeting, migrate, more string) string {
	return fmt.Sprintf(`    - name: %s
      chart: ./charts/hello
      version: 1.2.0
      namespace: %s
      timeout: 1m
      values:
        image: %[3]s
        greeting: %[4]s
        command: [nginx, -g, "daemon off;"]
        migrate: {image: %[3]s, command: [%[5]s]}
        cache: {image: %[3]s, command: [nginx, -g, "daemon off;"]}
%[6]s`, name, name, imageOfPayload, greeting, migrate, more)
}

// TestCharts installs, upgrades and removes a vendor's chart with a CRD, hooks and a dependency, without internet.
func TestCharts(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes five minutes: make test-long")
	}
	runParallel(t)
	ctx := timeoutContext(t, 40)
	h := startHostWithPlinth(t, "charts")
	const good = "nginx, -v"
	h.Copy(buildWithCharts(t, 2, chartEntry("hello", "Hello", good, "")+chartEntry("other", "Other", good, "      after: [hello]\n")), chartsBundle)
	h.Copy(buildWithCharts(t, 3, chartEntry("hello", "Good", good, "")+chartEntry("other", "Other", good, "      after: [hello]\n")), changedCharts)
	h.Copy(buildWithCharts(t, 4, chartEntry("hello", "Good", good, "")), droppedCharts)
	h.Copy(buildWithCharts(t, 5, chartEntry("hello", "Good", good, "")+chartEntry("bad", "Bad", "nginx, --no-such-flag", "")), failingCharts)
	// Containers of the other image cannot start the program, so that the Deployment never becomes Ready.
	pending := strings.Replace(chartEntry("hello", "Never", good, ""), "        image: "+imageOfPayload, "        image: "+otherImage, 1)
	h.Copy(buildWithCharts(t, 5, pending), pendingCharts)
	kubectl := func(ctx context.Context, h *lab.Host, args ...string) string {
		return strings.TrimSpace(h.MustRun(ctx, append([]string{binary, "kubectl"}, args...)...))
	}
	greeting := []string{"get", "greetings", "-A", "-o", "jsonpath={range .items[*]}{.metadata.name}={.spec.text} {end}"}

	if !t.Run("a killed install is resumed", func(t *testing.T) {
		h := h.ForTest(t)
		kill(t, ctx, h, "install/chart-hello:begun", "install", "--bundle", chartsBundle, "--yes")
		runPlinth(t, ctx, h, 0, "install", "--bundle", chartsBundle, "--yes")
		checkCluster(t, ctx, h)
		if got := kubectl(ctx, h, greeting...); got != "hello=Hello other=Other" {
			t.Errorf("greetings are %s", got)
		}
	}) {
		t.FailNow()
	}
	t.Run("a second run changes nothing", func(t *testing.T) {
		if r := runPlinth(t, ctx, h.ForTest(t), 0, "install", "--bundle", chartsBundle, "--yes"); r.Result.Changed {
			t.Errorf("%+v", r.Result)
		}
	})
	t.Run("an upgrade changes one chart", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "upgrade", "--bundle", changedCharts, "--yes")
		if got := kubectl(ctx, h, greeting...); got != "hello=Good other=Other" {
			t.Errorf("greetings are %s", got)
		}
	})
	t.Run("an upgrade removes a chart and keeps its CRD", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "upgrade", "--bundle", droppedCharts, "--yes")
		if got := kubectl(ctx, h, greeting...); got != "hello=Good" {
			t.Errorf("greetings are %s", got)
		}
		checkCluster(t, ctx, h)
	})
	t.Run("a hook that fails is named and rolled back", func(t *testing.T) {
		h := h.ForTest(t)
		r := runPlinth(t, ctx, h, 7, "upgrade", "--bundle", failingCharts, "--yes")
		if !strings.Contains(r.Error.Cause, "bad-migrate") {
			t.Errorf("%+v", r.Error)
		}
		if got := kubectl(ctx, h, greeting...); got != "hello=Good" {
			t.Errorf("greetings are %s", got)
		}
		checkCluster(t, ctx, h)
	})
	t.Run("a new image that never becomes Ready is named and rolled back", func(t *testing.T) {
		h := h.ForTest(t)
		r := runPlinth(t, ctx, h, 7, "upgrade", "--bundle", pendingCharts, "--yes")
		if !strings.Contains(r.Error.Cause, "hello/hello") || !strings.Contains(r.Error.Hint, "the state before the upgrade was restored") {
			t.Errorf("%+v", r.Error)
		}
		if got := kubectl(ctx, h, greeting...); got != "hello=Good" {
			t.Errorf("greetings are %s", got)
		}
		const running = "jsonpath={.spec.template.spec.containers[0].image} {.status.readyReplicas}"
		if got := kubectl(ctx, h, "get", "deployment", "-n", "hello", "hello", "-o", running); got != imageOfPayload+" 1" {
			t.Errorf("after the rollback: %s", got)
		}
		checkCluster(t, ctx, h)
	})
	t.Run("a reset leaves nothing", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "reset", "cluster", "--cluster", "my-app", "--yes")
	})
}
