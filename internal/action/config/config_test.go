package config_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/e2e/testapp"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// files writes the files of an install into a folder of the test.
type files struct {
	t   *testing.T
	dir string
}

func in(t *testing.T) files { return files{t, t.TempDir()} }

func (f files) write(name, content string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// application returns an Application with this title and targetKotsVersion.
func application(title, target string) string {
	return fmt.Sprintf("apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: my-app}\nspec: {title: %s, targetKotsVersion: %q}\n", title, target)
}

// airgapFile writes the .airgap file of an application with the title Toy Application.
func (f files) airgapFile() string {
	f.t.Helper()
	const ref = "docker.io/library/busybox:1.35.0"
	r := testapp.Release{VersionLabel: "1.2.3", Cursor: 7, TargetKOTS: "1.131.2", ImageRef: ref,
		Image: airgaptest.BuildImage(f.t, airgaptest.Image{Ref: ref, Files: []string{"busybox"}, Gzip: true})}
	path := filepath.Join(f.dir, "app.airgap")
	if err := r.WriteFile(path); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// release writes an .airgap file with these files in its app.tar.gz.
func (f files) release(name string, content map[string]string) string {
	f.t.Helper()
	app := map[string][]byte{}
	for path, text := range content {
		app[path] = []byte(text)
	}
	return f.write(name+".airgap", string(pack(f.t, map[string][]byte{
		"airgap.yaml": []byte("apiVersion: kots.io/v1beta1\nkind: Airgap\nspec: {appSlug: my-app, format: docker-archive}\n"),
		"app.tar.gz":  pack(f.t, app),
	})))
}

// pack returns files as .tar.gz.
func pack(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	archive := tar.NewWriter(zip)
	for path, content := range files {
		err := archive.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(content))})
		_, errWrite := archive.Write(content)
		testkit.Must(t, err, errWrite)
	}
	testkit.Must(t, archive.Close(), zip.Close())
	return buf.Bytes()
}

// license writes a license in the right format; no KOTS would accept its signature.
func (f files) license(slug string, airgap bool) string {
	return f.write("license.yaml", fmt.Sprintf("apiVersion: kots.io/v1beta1\nkind: License\nspec:\n  appSlug: %s\n  channelName: Stable\n  licenseID: abc\n  signature: c2lnbmVk\n  isAirgapSupported: %t\n", slug, airgap))
}

// installer returns the documented Installer after the replacements.
func installer(t *testing.T, replace ...string) string {
	t.Helper()
	raw, err := os.ReadFile("../../../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(replace...).Replace(string(raw))
}

// bundle builds a bundle with this Installer and, unless it is "", this Application.
func bundle(t *testing.T, installer, application string) string {
	t.Helper()
	req := airgaptest.NewRequest(t)
	req.Installer, req.Application = []byte(installer), nil
	if application != "" {
		req.Application = []byte(application)
	}
	return airgaptest.WriteBundle(t, req)
}

func read(t *testing.T, req config.LoadOptions) (config.Config, error) {
	t.Helper()
	b, err := airgap.Open(t.Context(), req.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	return config.Load(t.Context(), b, req, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
}

func TestLoad_PrefersTheApplicationOfTheRelease(t *testing.T) {
	f := in(t)
	own, bare := application("Of The Bundle", "1.131.2"), installer(t)
	beside, same := f.write("beside.yaml", application("Beside", "1.131.2")), f.write("same.yaml", own)
	release, license := f.airgapFile(), f.license("my-app", true)
	for name, c := range map[string]struct {
		req     config.LoadOptions
		title   string
		notices int
	}{
		"none at all":                    {config.LoadOptions{Bundle: bundle(t, bare, "")}, "", 0},
		"the bundle's own":               {config.LoadOptions{Bundle: bundle(t, bare, own)}, "Of The Bundle", 0},
		"one beside a bundle without":    {config.LoadOptions{Bundle: bundle(t, bare, ""), Application: beside}, "Beside", 0},
		"the same twice gives no notice": {config.LoadOptions{Bundle: bundle(t, bare, own), Application: same}, "Of The Bundle", 0},
		"the release before all others":  {config.LoadOptions{Bundle: bundle(t, bare, own), AppBundle: release, License: license}, "Toy Application", 1},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := read(t, c.req)
			if err != nil {
				t.Fatal(err)
			}
			if m.Title() != c.title || (m.Application == nil) != (c.title == "") || m.Installer == nil {
				t.Errorf("decides %q: %+v", m.Title(), m.Application)
			}
			if len(m.Notices) != c.notices {
				t.Errorf("notices are %q", m.Notices)
			}
			for _, n := range m.Notices {
				if !strings.Contains(n, "differs from") || !strings.Contains(n, m.Application.Name) {
					t.Errorf("notice is %q", n)
				}
			}
		})
	}
}

func TestCheckVersionGate_JudgesAnExplicitApplicationToo(t *testing.T) {
	f := in(t)
	const good, old = "1.131.2", "1.130.0"
	own := bundle(t, installer(t), application("Toy", good))
	for name, c := range map[string]struct {
		req  config.LoadOptions
		exit int
		want string
	}{
		"the same, with a comment":       {config.LoadOptions{Bundle: own, Application: f.write("same.yaml", "# a comment\n"+application("Toy", good))}, 0, ""},
		"an older one":                   {config.LoadOptions{Bundle: own, Application: f.write("old.yaml", application("Old", old))}, problem.ExitGate, "old.yaml"},
		"an older one in the bundle":     {config.LoadOptions{Bundle: bundle(t, installer(t), application("Toy", old)), Application: f.write("good.yaml", application("Good", good))}, problem.ExitGate, "Toy"},
		"another one that is allowed":    {config.LoadOptions{Bundle: own, Application: f.write("other.yaml", application("Other", good))}, problem.ExitUsage, "other.yaml is not the one in"},
		"an older one, the gate skipped": {config.LoadOptions{Bundle: own, Application: f.write("old.yaml", application("Old", old)), SkipKotsCheck: true}, problem.ExitUsage, "is not the one in"},
		"another one than the release's": {config.LoadOptions{Bundle: bundle(t, installer(t), ""), AppBundle: f.airgapFile(), License: f.license("my-app", true), Application: f.write("old.yaml", application("Old", old))}, problem.ExitGate, "old.yaml"},
		"bounds that are wrong, skipped": {config.LoadOptions{Bundle: own, Application: f.write("wrong.yaml", application("Wrong", "1.x")), SkipKotsCheck: true}, problem.ExitUsage, "wrong.yaml is not the one in"},
		"an older one after another":     {config.LoadOptions{Bundle: own, Application: f.write("two.yaml", application("Toy", good)+"--- # old\n"+application("Old", old))}, problem.ExitGate, "of Old requires"},
		"a release with --- and comment": {config.LoadOptions{Bundle: own, AppBundle: f.release("comment", map[string]string{"app.yaml": "kind: ConfigMap\n--- # the app\n" + application("Old", old)}), License: f.license("my-app", true)}, problem.ExitGate, "of Old requires"},
		"a release with --- and a tab":   {config.LoadOptions{Bundle: own, AppBundle: f.release("tab", map[string]string{"app.yaml": "kind: ConfigMap\n---\t\n" + application("Old", old)}), License: f.license("my-app", true)}, problem.ExitGate, "of Old requires"},
		"a release with two, one old":    {config.LoadOptions{Bundle: own, AppBundle: f.release("two", map[string]string{"a-b/app.yaml": application("Toy", good), "a/app.yaml": application("Old", old)}), License: f.license("my-app", true)}, problem.ExitGate, "of Old requires"},
		"a release with two, both good":  {config.LoadOptions{Bundle: own, AppBundle: f.release("good", map[string]string{"a-b/app.yaml": application("Toy", good), "a/app.yaml": application("Other", good)}), License: f.license("my-app", true)}, 0, ""},
		"a release with a number":        {config.LoadOptions{Bundle: own, AppBundle: f.release("number", map[string]string{"app.yaml": application("123", good)}), License: f.license("my-app", true)}, 0, ""},
		"a release with a merge key":     {config.LoadOptions{Bundle: own, AppBundle: f.release("merge", map[string]string{"app.yaml": application("Toy", good) + "<<: &m {status: {}}\nstatus: *m\nkind: Application\n"}), License: f.license("my-app", true)}, 0, ""},
		"only an older one":              {config.LoadOptions{Bundle: bundle(t, installer(t), ""), Application: f.write("old.yaml", application("Old", old))}, problem.ExitGate, "Old"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := read(t, c.req)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = m.CheckVersionGate(true, c.req.SkipKotsCheck)
			if problem.ExitCode(err) != c.exit || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("exit %d: %v", problem.ExitCode(err), err)
			}
		})
	}
}

func TestLoad_WarnsOfWhatKOTSCannotDecode(t *testing.T) {
	f := in(t)
	m, err := read(t, config.LoadOptions{Bundle: bundle(t, installer(t), application("123", "1.131.2"))})
	if err != nil || len(m.Notices) != 1 || !strings.Contains(m.Notices[0], "spec.title: must be text, found a number; KOTS cannot decode the Application") {
		t.Errorf("%v: %q", err, m.Notices)
	}
	broken := f.release("broken", map[string]string{"app.yaml": strings.Replace(application("Toy", "1.131.2"), "Toy", "{{repl x }}", 1)})
	_, err = read(t, config.LoadOptions{Bundle: bundle(t, installer(t), ""), AppBundle: broken, License: f.license("my-app", true)})
	if problem.ExitCode(err) != problem.ExitConfig || !strings.Contains(err.Error(), "contains the template") {
		t.Error(err)
	}
}

func TestLoad_ReadsLicenseAndRelease(t *testing.T) {
	f := in(t)
	b, release, license := bundle(t, installer(t), ""), f.airgapFile(), f.license("my-app", true)
	values := f.write("values.yaml", "values: 1\n")
	ids := map[string]string{}
	for name, req := range map[string]config.LoadOptions{
		"without values": {Bundle: b, AppBundle: release, License: license},
		"with values":    {Bundle: b, AppBundle: release, License: license, ConfigValues: values},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := read(t, req)
			if err != nil {
				t.Fatal(err)
			}
			if m.App == nil || m.App.Slug != "my-app" || m.App.Bundle != release || m.App.License != license || m.App.ConfigValues != req.ConfigValues {
				t.Errorf("app is %+v", m.App)
			}
			if !strings.HasPrefix(m.AppID, "my-app 1.2.3 7 ") || ids[m.AppID] != "" {
				t.Errorf("id %q, as %s", m.AppID, ids[m.AppID])
			}
			ids[m.AppID] = name
			if again, err := read(t, req); err != nil || again.AppID != m.AppID {
				t.Errorf("the second time the id is %q, error %v", again.AppID, err)
			}
		})
	}
}

func TestLoad_RefusesWhatCannotBeInstalled(t *testing.T) {
	f := in(t)
	b, release, license := bundle(t, installer(t), ""), f.airgapFile(), f.license("my-app", true)
	other := in(t).license("other-app", true)
	online := in(t).license("my-app", false)
	noRegistry := bundle(t, installer(t, "  registry:  ", "  # registry:", "    version: 3.1.2", ""), "")
	broken := f.write("broken.airgap", "not gzip")
	for name, c := range map[string]struct {
		req  config.LoadOptions
		exit int
		want string
	}{
		"a release without a license":       {config.LoadOptions{Bundle: b, AppBundle: release}, problem.ExitUsage, "--license"},
		"values without a license":          {config.LoadOptions{Bundle: b, ConfigValues: release}, problem.ExitUsage, "--license"},
		"a license without a release":       {config.LoadOptions{Bundle: b, License: license}, problem.ExitUsage, "--app-bundle"},
		"a license of another application":  {config.LoadOptions{Bundle: b, AppBundle: release, License: other}, problem.ExitConfig, `"other-app"`},
		"a license for online use":          {config.LoadOptions{Bundle: b, AppBundle: release, License: online}, problem.ExitConfig, "air-gapped"},
		"no registry to push to":            {config.LoadOptions{Bundle: noRegistry, AppBundle: release, License: license}, problem.ExitConfig, "spec.registry"},
		"a license that is missing":         {config.LoadOptions{Bundle: b, AppBundle: release, License: "/none"}, problem.ExitConfig, "cannot read /none"},
		"values that are missing":           {config.LoadOptions{Bundle: b, AppBundle: release, License: license, ConfigValues: "/none"}, problem.ExitConfig, "cannot read /none"},
		"a release that is missing":         {config.LoadOptions{Bundle: b, AppBundle: "/none.airgap", License: license}, problem.ExitUsage, "--app-bundle"},
		"a release that is damaged":         {config.LoadOptions{Bundle: b, AppBundle: broken, License: license}, problem.ExitBundle, "not an .airgap file"},
		"an application that is missing":    {config.LoadOptions{Bundle: b, Application: "/none"}, problem.ExitConfig, "cannot read /none"},
		"a file that is not an Application": {config.LoadOptions{Bundle: b, Application: license}, problem.ExitConfig, "license.yaml"},
		"a wrong Installer":                 {config.LoadOptions{Bundle: bundle(t, installer(t, "v1.33.8+k0s.1", "latest"), "")}, problem.ExitConfig, "spec.k0s.version"},
		"no Installer":                      {config.LoadOptions{Bundle: bundle(t, application("Toy", "1.131.2"), "")}, problem.ExitBundle, "Installer"},
		"bounds that are not versions":      {config.LoadOptions{Bundle: bundle(t, installer(t), application("Toy", "1.x"))}, problem.ExitConfig, "targetKotsVersion"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, c.req)
			if problem.ExitCode(err) != c.exit {
				t.Errorf("exit %d, want %d: %v", problem.ExitCode(err), c.exit, err)
			}
			if all := fmt.Sprint(err) + problem.Hint(err); !strings.Contains(all, c.want) {
				t.Errorf("%s\nwant %q", all, c.want)
			}
			if strings.Contains(fmt.Sprint(err), "c2lnbmVk") {
				t.Errorf("it shows the license: %v", err)
			}
		})
	}
}

func TestLoad_AcceptsWrongBoundsWhenTheGateIsSkipped(t *testing.T) {
	m, err := read(t, config.LoadOptions{Bundle: bundle(t, installer(t), application("Toy", "1.x")), SkipKotsCheck: true})
	if err != nil || m.Title() != "Toy" || m.Installer == nil {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestReadFiles_EndsWithTheCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := config.ReadFiles(ctx, []string{"/dev/null"}); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func TestReadFiles_LimitsSizeAndReportsAllFailures(t *testing.T) {
	f := in(t)
	huge := f.write("huge.yaml", strings.Repeat("#", 3<<20))
	got, err := config.ReadFiles(t.Context(), []string{huge})
	if err != nil || len(got) != 1 || len(got[0].Data) > 2<<20 {
		t.Errorf("read %d bytes, error %v", len(got[0].Data), err)
	}
	_, err = config.ReadFiles(t.Context(), []string{"/none/a", f.dir, "/none/b"})
	for _, want := range []string{"cannot read /none/a: no such file", "cannot read " + f.dir + ": is a directory", "cannot read /none/b"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want also %q", err, want)
		}
	}
	if problem.ExitCode(err) != problem.ExitConfig {
		t.Errorf("exit %d", problem.ExitCode(err))
	}
}

func TestLintPaths_ReportsTheGate(t *testing.T) {
	f := in(t)
	good := f.write("installer.yaml", installer(t))
	if rep, err := config.LintPaths(t.Context(), []string{good, f.write("a.yaml", application("Toy", "1.131.2"))}); err != nil || rep.Installer == nil || len(rep.Applications) != 1 {
		t.Errorf("%+v, %v", rep, err)
	}
	if _, err := config.LintPaths(t.Context(), []string{good, f.write("a.yaml", application("Toy", "1.100.0"))}); problem.ExitCode(err) != problem.ExitGate {
		t.Errorf("gate: %v", err)
	}
	if rep, err := config.LintPaths(t.Context(), []string{f.write("bad.yaml", installer(t, "1.131.2", "latest"))}); problem.ExitCode(err) != problem.ExitConfig || len(rep.Findings) == 0 {
		t.Errorf("findings %+v, %v", rep.Findings, err)
	}
}
