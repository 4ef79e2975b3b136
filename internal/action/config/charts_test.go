package config

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/internal/charts"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// Every object that is wrong is named, although all belong to one line of the Installer.
func TestLintPaths_NamesEveryObject(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {hostPID: true, containers: [{name: c, image: docker.io/library/a}]}\n"
	dir := writeRelease(t, map[string]string{"installer.yaml": goodInstaller + "  charts: [{name: toy, chart: ./toy, version: 1.0.0, namespace: toy}]\n",
		"toy/Chart.yaml": "apiVersion: v2\nname: toy\nversion: 1.0.0\n", "toy/templates/a.yaml": fmt.Sprintf(pod, "one"), "toy/templates/b.yaml": fmt.Sprintf(pod, "two")})
	report, err := LintPaths(t.Context(), []string{dir})
	testkit.Must(t, err)
	var named []string
	for _, f := range report.Findings {
		if f.Rule == "chart-privileged" {
			named = append(named, f.Message)
		}
	}
	if len(named) != 2 || !strings.Contains(named[0], "toy/templates/a.yaml: Pod one") || !strings.Contains(named[1], "toy/templates/b.yaml: Pod two") {
		t.Errorf("%q", named)
	}
}

// Lint renders the charts beside the Installer and those in the cache, and asks no server.
func TestLintPaths_ChecksCharts(t *testing.T) {
	archive, err := charts.ReadLocal("../../charts/testdata/hello")
	testkit.Must(t, err)
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests++; strings.HasSuffix(r.URL.Path, "/index.yaml") {
			fmt.Fprintf(w, "entries: {hello: [{version: 1.2.0, urls: [hello.tgz], digest: %x}]}", sha256.Sum256(archive))
			return
		}
		_, _ = w.Write(archive)
	}))
	defer server.Close()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	cache, err := DownloadCache("")
	testkit.Must(t, err)
	stored := pull.Chart{Ref: server.URL + "/hello", Version: "1.2.0"}
	_, err = pull.FetchChart(t.Context(), pull.Request{Folder: cache}, stored)
	testkit.Must(t, err)
	requests = 0
	const entry = "  charts: [{name: hello, chart: %q, version: 1.2.0, namespace: hello, values: {greeting: %s}}]\n"
	for name, c := range map[string]struct {
		chart, greeting string
		exit            int
		want            string // a part of the findings
	}{
		"beside the Installer":      {"./hello", "Hi", 0, ""},
		"with a bad value":          {"./hello", "[Hi]", problem.ExitConfig, "installer.yaml:8:"},
		"in the cache":              {stored.Ref, "[Hi]", problem.ExitConfig, "[chart-values] spec.charts[0].values.greeting"},
		"neither":                   {"oci://registry.example.com/hello", "Hi", 0, "warning [chart-unchecked] spec.charts[0].chart"},
		"not there":                 {"./absent", "Hi", problem.ExitConfig, "[chart-read]"},
		"the cache without a chart": {server.URL + "/other", "Hi", 0, "[chart-unchecked]"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeRelease(t, map[string]string{"installer.yaml": goodInstaller + fmt.Sprintf(entry, c.chart, c.greeting)})
			testkit.Must(t, os.CopyFS(filepath.Join(dir, "hello"), os.DirFS("../../charts/testdata/hello")))
			report, err := LintPaths(t.Context(), []string{dir})
			var found strings.Builder
			for _, f := range report.Findings {
				if strings.HasPrefix(f.Rule, "chart-") {
					fmt.Fprintln(&found, f)
				}
			}
			if problem.ExitCode(err) != c.exit || !strings.Contains(found.String(), c.want) || c.want == "" && found.Len() > 0 {
				t.Errorf("exit %d\n%s\nwant %s", problem.ExitCode(err), found.String(), c.want)
			}
		})
	}
	if requests > 0 {
		t.Errorf("lint sent %d requests", requests)
	}
}
