package install

import (
	"os"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// manifests returns the documented Installer after the replacements and an Application
// with these bounds, linted; without an Application when bounds is "".
func manifests(t *testing.T, bounds string, replace ...string) config.Config {
	t.Helper()
	raw, err := os.ReadFile("../../../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files := []spec.File{{Name: "installer.yaml", Data: []byte(strings.NewReplacer(replace...).Replace(string(raw)))}}
	if bounds != "" {
		files = append(files, spec.File{Name: "application.yaml", Data: []byte("apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: my-app}\nspec: {title: Toy, " + bounds + "}\n")})
	}
	rep := spec.Lint(files)
	if rep.Installer == nil {
		t.Fatalf("%+v", rep.Findings)
	}
	return config.Config{Installer: rep.Installer, LintReport: rep}
}

func TestCheckInstalled_AcceptsTheSameProductOnly(t *testing.T) {
	receipt := journal.Receipt{Name: "my-app", Bundle: "sha256:abc"}
	if err := manifests(t, "").CheckInstalled(receipt); err != nil {
		t.Error(err)
	}
	err := manifests(t, "", "name: my-app ", "name: other ").CheckInstalled(receipt)
	if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), "this host already has my-app") || !strings.Contains(problem.Hint(err), "nothing on this host was changed") {
		t.Errorf("%v (%s)", err, problem.Hint(err))
	}
}

func TestCheckVersionGate_StopsAnInstallUnlessSkipped(t *testing.T) {
	noKots := manifests(t, `targetKotsVersion: "1.100.0"`)
	noKots.Installer.Spec.Kotsadm = nil
	for name, c := range map[string]struct {
		set         config.Config
		first, skip bool
		exit        int
		warning     string // stored in the receipt
		note        string // shown now
	}{
		"within the bounds":         {manifests(t, `minKotsVersion: "1.131.2", targetKotsVersion: "1.131.2"`), true, false, 0, "", ""},
		"above the target":          {manifests(t, `targetKotsVersion: "1.131.1"`), true, false, problem.ExitGate, "", ""},
		"above it, not the first":   {manifests(t, `targetKotsVersion: "1.131.1"`), false, false, 0, "", ""},
		"below the minimum":         {manifests(t, `minKotsVersion: "1.132.0"`), false, false, problem.ExitGate, "", ""},
		"above it, skipped":         {manifests(t, `targetKotsVersion: "1.131.1"`), true, true, 0, "was skipped on request, though this version of Toy requires a different version of KOTS", "warning: "},
		"skipped without need":      {manifests(t, `targetKotsVersion: "1.131.2"`), true, true, 0, "", ""},
		"no bounds":                 {manifests(t, `statusInformers: []`), true, false, 0, "", "note: the KOTS version gate had nothing to check"},
		"no application":            {manifests(t, ""), true, false, 0, "", "note: the KOTS version gate had nothing to check"},
		"a cluster without console": {noKots, true, false, 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			note, warning, err := c.set.CheckVersionGate(c.first, c.skip)
			if problem.ExitCode(err) != c.exit {
				t.Errorf("exit %d: %v", problem.ExitCode(err), err)
			}
			if got := warning; !strings.Contains(got, c.warning) || c.warning == "" && got != "" {
				t.Errorf("warnings are %q", got)
			}
			if got := note; !strings.Contains(got, c.note) || c.note == "" && got != "" {
				t.Errorf("notes are %q", got)
			}
		})
	}
}
