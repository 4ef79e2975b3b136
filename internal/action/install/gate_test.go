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

func TestCheckInstalled_AcceptsTheSameInstallerOnly(t *testing.T) {
	receipt := journal.Receipt{Name: "my-app", Bundle: "sha256:abc", Versions: map[string]string{"k0s": "v1.33.8+k0s.1", "kotsadm": "1.131.2"}}
	var err error
	if receipt.Installer, err = manifests(t, "").Installer.Digest(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		receipt journal.Receipt
		set     config.Config
		want    string // in the error; "" for none
	}{
		"the same":       {receipt, manifests(t, ""), ""},
		"another name":   {receipt, manifests(t, "", "name: my-app ", "name: other "), "this host already has my-app"},
		"another k0s":    {receipt, manifests(t, "", "version: v1.33.8+k0s.1", "version: v1.33.9+k0s.0"), "this host runs k0s v1.33.8+k0s.1"},
		"another KOTS":   {receipt, manifests(t, "", "version: 1.131.2", "version: 1.132.0"), "this host runs KOTS 1.131.2"},
		"other networks": {receipt, manifests(t, "", "podCIDR: 10.244.0.0/16", "podCIDR: 10.245.0.0/16"), `its Installer differs from the one with which this host was installed: spec.network.podCIDR was "10.244.0.0/16" and is now "10.245.0.0/16"`},
		"another port":   {receipt, manifests(t, "", "uiBindPort: 8800", "uiBindPort: 8801"), "spec.kotsadm.uiBindPort was 8800 and is now 8801"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.set.CheckInstalled(c.receipt, manifests(t, "").Installer)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.want) ||
				!strings.Contains(problem.Hint(err), "sha256:abc") || !strings.Contains(problem.Hint(err), "nothing on this host was changed")):
				t.Errorf("%v (%s), want %q", err, problem.Hint(err), c.want)
			}
		})
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
