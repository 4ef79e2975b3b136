package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// Manifests of a release, each written for these tests.
const (
	goodInstaller = "apiVersion: plinth.dev/v1beta1\nkind: Installer\nmetadata: {name: shop}\nspec:\n  k0s: {version: v1.33.8+k0s.1}\n  localPathStorage: {version: 0.0.30}\n  kotsadm: {version: 1.131.2}\n"
	kotsApp       = "apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: shop}\nspec: {title: Shop, targetKotsVersion: 1.131.2}\n"
	sigApp        = "apiVersion: app.k8s.io/v1beta1\nkind: Application\nmetadata: {name: shop}\nspec: {targetKotsVersion: 1.0.0}\n"
	kotsConfig    = "apiVersion: kots.io/v1beta1\nkind: Config\nspec: {groups: [{name: a, items: [{name: b, value: repl{{ RandomString 8 }}}]}]}\n"
	helmChart     = "apiVersion: kots.io/v1beta2\nkind: HelmChart\nspec: {chart: {name: shop, chartVersion: 1.0.0}}\n"
	kurlInstaller = "apiVersion: cluster.kurl.sh/v1beta1\nkind: Installer\nmetadata: {name: shop}\nspec: {kubernetes: {version: 1.27.x}}\n"
)

// writeRelease writes files below a new folder and returns it.
func writeRelease(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLintPaths_UnderstandsARelease(t *testing.T) {
	for name, c := range map[string]struct {
		files   map[string]string
		paths   []string // below the folder; none for the folder itself
		exit    int
		want    string // in the findings or the error
		ignored string
		app     bool // the Application was found
	}{
		"a whole folder": {files: map[string]string{"installer.yaml": goodInstaller, "app.yaml": kotsApp, "k8s-app.yaml": sigApp, "config.yml": kotsConfig, "charts/shop.yaml": helmChart, "charts/shop-1.0.0.tgz": "\x1f\x8b", "README.md": "# Shop", ".git/config.yaml": "x: 1"},
			ignored: "map[app.k8s.io/v1beta1 Application:1 kots.io/v1beta2 HelmChart:1 not YAML:1] 2", app: true},
		"an Application among other documents": {files: map[string]string{"installer.yaml": goodInstaller, "all.yaml": sigApp + "---\n" + kotsApp + "---\n" + helmChart},
			ignored: "map[app.k8s.io/v1beta1 Application:1 kots.io/v1beta2 HelmChart:1] 0", app: true},
		"files in place of a folder": {files: map[string]string{"a.yaml": goodInstaller, "b.yaml": kotsApp, "c.yaml": sigApp, "d.tgz": "\x1f\x8b"}, paths: []string{"a.yaml", "b.yaml", "c.yaml", "d.tgz"},
			ignored: "map[app.k8s.io/v1beta1 Application:1] 1", app: true},
		"a lock beside the Installer": {files: map[string]string{"installer.yaml": goodInstaller, "installer.lock.yaml": "apiVersion: plinth.dev/v1beta1\nkind: InstallerLock\n"},
			ignored: "map[plinth.dev/v1beta1 InstallerLock:1] 0"},
		"a release without an Installer":       {files: map[string]string{"app.yaml": kotsApp, "values.yaml": "a: 1\n"}, ignored: "map[without apiVersion and kind:1] 0", app: true},
		"the gate":                             {files: map[string]string{"installer.yaml": goodInstaller, "app.yaml": strings.Replace(kotsApp, "1.131.2", "1.130.0", 1)}, exit: problem.ExitGate, want: "1.130.0", app: true},
		"two Applications, one too old":        {files: map[string]string{"installer.yaml": goodInstaller, "a.yaml": kotsApp, "b.yaml": strings.Replace(kotsApp, "1.131.2", "1.130.0", 1)}, exit: problem.ExitGate, want: "1.130.0", app: true},
		"an error in the Application":          {files: map[string]string{"app.yaml": strings.Replace(kotsApp, "1.131.2", "1.x", 1), "chart.yaml": helmChart}, exit: problem.ExitConfig, want: "[app-version]", ignored: "map[kots.io/v1beta2 HelmChart:1] 0"},
		"an error in the Installer":            {files: map[string]string{"i.yaml": strings.Replace(goodInstaller, "1.131.2", "latest", 1)}, exit: problem.ExitConfig, want: "[version-exact]"},
		"a folder without either":              {files: map[string]string{"chart.yaml": helmChart, "x.tgz": "x"}, exit: problem.ExitConfig, want: "no Installer and no kots.io/v1beta1 Application among 1 YAML document and 1 other file"},
		"an empty folder":                      {exit: problem.ExitConfig, want: "no Installer"},
		"a kURL Installer alone":               {files: map[string]string{"kurl.yaml": kurlInstaller}, paths: []string{"kurl.yaml"}, exit: problem.ExitConfig, want: "this is an Installer of kURL, not of Plinth (convert it with: plinth convert kurl "},
		"a kURL Installer in a folder":         {files: map[string]string{"kurl.yaml": kurlInstaller, "app.yaml": kotsApp}, exit: problem.ExitConfig, want: "[kurl-installer]", app: true},
		"a kURL Installer beside the other":    {files: map[string]string{"kurl.yaml": kurlInstaller, "installer.yaml": goodInstaller}, ignored: "map[cluster.kurl.sh/v1beta1 Installer:1] 0"},
		"one file that is neither":             {files: map[string]string{"c.yaml": helmChart}, paths: []string{"c.yaml"}, exit: problem.ExitConfig, want: "[api-version]"},
		"a named file without its kind":        {files: map[string]string{"i.yaml": goodInstaller, "app.yaml": strings.Replace(kotsApp, "kind: Application\n", "", 1)}, paths: []string{"i.yaml", "app.yaml"}, exit: problem.ExitConfig, want: "app.yaml"},
		"a file that is too large in a folder": {files: map[string]string{"installer.yaml": goodInstaller, "app.yaml": kotsApp + strings.Repeat("#", 1<<20)}, exit: problem.ExitConfig, want: "app.yaml:1:1: error [file-too-large]"},
		"an Application that is too large":     {files: map[string]string{"i.yaml": goodInstaller, "app.yaml": kotsApp + strings.Repeat("#", 1<<20)}, paths: []string{"i.yaml", "app.yaml"}, exit: problem.ExitConfig, want: "[file-too-large]"},
		"an Application with a syntax error":   {files: map[string]string{"i.yaml": goodInstaller, "app.yaml": "a: [1\nb: 2\n"}, paths: []string{"i.yaml", "app.yaml"}, exit: problem.ExitConfig, want: "app.yaml:2:1: error [yaml-syntax]"},
		"a file that is missing":               {paths: []string{"none.yaml"}, exit: problem.ExitConfig, want: "none.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeRelease(t, c.files)
			paths := []string{dir}
			for i, p := range c.paths {
				paths = append(paths[:i], filepath.Join(dir, p))
			}
			report, err := LintPaths(t.Context(), paths)
			all := fmt.Sprint(err)
			for _, f := range report.Findings {
				all += "\n" + f.String()
			}
			if problem.ExitCode(err) != c.exit || !strings.Contains(all, c.want) {
				t.Errorf("exit %d, want %d and %q: %s", problem.ExitCode(err), c.exit, c.want, all)
			}
			ignored := ""
			if report.Ignored != nil {
				ignored = fmt.Sprint(report.Ignored.Documents, report.Ignored.Files)
			}
			if ignored != c.ignored || (report.Applications != nil) != c.app {
				t.Errorf("ignored %q, want %q; Applications %v", ignored, c.ignored, report.Applications)
			}
		})
	}
}

func TestLintPaths_WarnsOfAReleaseWithoutSnapshots(t *testing.T) {
	const withVelero = goodInstaller + "  velero: {version: 1.18.3}\n"
	const backup = "apiVersion: velero.io/v1\nkind: Backup\nmetadata: {name: backup}\nspec: {}\n"
	templated := "apiVersion: velero.io/v1\nkind: Backup # of KOTS\nmetadata:\n  name: backup\nspec: {ttl: repl{{ ConfigOption \"ttl\" }}}\n"
	for name, c := range map[string]struct {
		files map[string]string
		paths []string // below the folder; none for the folder itself
		warns bool
	}{
		"no Backup":               {files: map[string]string{"installer.yaml": withVelero, "app.yaml": kotsApp}, warns: true},
		"a Backup":                {files: map[string]string{"installer.yaml": withVelero, "app.yaml": kotsApp, "b/backup.yaml": backup}},
		"a Backup with templates": {files: map[string]string{"installer.yaml": withVelero, "app.yaml": kotsApp, "backup.yaml": templated}},
		"a Backup in one file":    {files: map[string]string{"installer.yaml": withVelero, "all.yaml": kotsApp + "---\n" + backup}},
		"no Velero":               {files: map[string]string{"installer.yaml": goodInstaller, "app.yaml": kotsApp}},
		"no release":              {files: map[string]string{"installer.yaml": withVelero}},
		"two files":               {files: map[string]string{"i.yaml": withVelero, "app.yaml": kotsApp}, paths: []string{"i.yaml", "app.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeRelease(t, c.files)
			paths := []string{dir}
			for i, p := range c.paths {
				paths = append(paths[:i], filepath.Join(dir, p))
			}
			report, err := LintPaths(t.Context(), paths)
			if err != nil {
				t.Fatal(err)
			}
			found := slices.DeleteFunc(report.Findings, func(f spec.Finding) bool { return f.Rule != "velero-backup" })
			if len(found) > 0 != c.warns || c.warns && !strings.Contains(found[0].String(), `warning [velero-backup] spec.velero: the release has no velero.io/v1 Backup`) {
				t.Errorf("%v", found)
			}
		})
	}
}

func TestLintPaths_SkipsPipesAndFollowsLinks(t *testing.T) {
	elsewhere := writeRelease(t, map[string]string{"installer.yaml": goodInstaller})
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(elsewhere, "installer.yaml"), filepath.Join(dir, "installer.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(elsewhere, "none"), filepath.Join(dir, "broken.yaml")); err != nil {
		t.Fatal(err)
	}
	if report, err := LintPaths(t.Context(), []string{dir}); err != nil || report.Installer == nil {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestConvertKURL_UsesTheVersionsOfTheExample(t *testing.T) {
	raw, err := os.ReadFile("../../../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example, findings := spec.ParseInstaller("installer.yaml", raw)
	if example == nil {
		t.Fatal(findings)
	}
	path := filepath.Join(t.TempDir(), "kurl.yaml")
	text := "apiVersion: cluster.kurl.sh/v1beta1\nkind: Installer\nmetadata: {name: a}\nspec: {kubernetes: {version: latest}, kotsadm: {version: latest}, registry: {version: latest}, openebs: {version: latest}, " +
		"kurl: {hostPreflights: {spec: {collectors: [{cpu: {}}], analyzers: [{cpu: {outcomes: [{fail: {when: count < 4, message: more}}]}}]}}}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ConvertKURL(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	report := LintFiles([]spec.File{{Name: "installer.yaml", Data: got.YAML}})
	if report.Installer == nil { // warnings are those of the example
		t.Fatalf("%v\n%s", report.Findings, got.YAML)
	}
	s, want := report.Installer.Spec, example.Spec
	if s.K0s.Version != want.K0s.Version || s.Kotsadm.Version != want.Kotsadm.Version || s.Registry.Version != want.Registry.Version || s.LocalPathStorage.Version != want.LocalPathStorage.Version {
		t.Errorf("other versions than the example:\n%s", got.YAML)
	}
	if checks, err := ParseHostPreflights(report.Installer); err != nil || len(checks.Checks) != 1 {
		t.Errorf("host preflights %+v, %v", checks, err)
	}
}
