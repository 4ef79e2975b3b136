package config

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

func TestLintFiles_IncludesRulesOfK0sAndAddOns(t *testing.T) {
	raw, err := os.ReadFile("../../../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := LintFiles([]spec.File{{Name: "installer.yaml", Data: raw}})
	if r.Installer == nil {
		t.Fatalf("the example: %v", r.Findings)
	}
	for _, f := range r.Findings { // the file says why it keeps what lint warns of
		if !strings.Contains(string(raw), f.Rule) {
			t.Errorf("the example does not explain: %v", f)
		}
	}
	const head = "apiVersion: plinth.dev/v1beta1\nkind: Installer\nmetadata: {name: a}\nspec:\n  k0s:\n    version: v1.33.8+k0s.1\n"
	for name, c := range map[string]struct{ yaml, want string }{
		"a string in place of a list": {"    config:\n      spec:\n        api:\n          sans: acme.example\n",
			"f:10:11: error [k0s-config] spec.k0s.config.spec.api.sans: must be a list, found text"},
		"a duration that is none": {"    config: {spec: {extensions: {helm: {charts: [{name: x, timeout: soon}]}}}}\n",
			`error [k0s-config] spec.k0s.config: k0s cannot decode it: invalid duration "soon"`},
		"a key that k0s does not know": {"    config:\n      spec:\n        api:\n          extraArg: {}\n",
			"f:10:11: error [k0s-config] spec.k0s.config.spec.api.extraArg: k0s has no such key"},
		"a key of a list's entry": {"    config:\n      spec:\n        extensions:\n          helm:\n            charts: [{name: x, chartnam: y}]\n",
			"f:11:32: error [k0s-config] spec.k0s.config.spec.extensions.helm.charts[0].chartnam: k0s has no such key"},
		"a value that k0s refuses": {"    config: {spec: {telemetry: {enabled: false}, network: {kubeProxy: {mode: fast}}}}\n",
			"k0s refuses it: "},
		"an unknown version": {"  localPathStorage: {version: 0.0.99}\n",
			"f:7:31: error [add-on-known] spec.localPathStorage.version: 0.0.99 is not supported (supported: 0.0.30) (choose a version"},
		"an unknown version of Velero": {"  velero: {version: 1.17.0}\n",
			"f:7:21: error [add-on-known] spec.velero.version: 1.17.0 is not supported (supported: 1.18.3) (choose a version"},
	} {
		t.Run(name, func(t *testing.T) {
			r := LintFiles([]spec.File{{Name: "f", Data: []byte(head + c.yaml)}})
			errs := slices.DeleteFunc(r.Findings, func(f spec.Finding) bool { return f.Severity == spec.Warning })
			if len(errs) != 1 || !strings.Contains(errs[0].String(), c.want) || r.Installer != nil {
				t.Errorf("%v", errs)
			}
		})
	}
}

func TestLintFiles_RefusesK0sThatThisBuildDoesNotInstall(t *testing.T) {
	for _, version := range []string{"v1.20.0+k0s.0", "v1.32.13+k0s.0", "v9.99.0+k0s.0", "v1.34.0-rc.1+k0s.0", "v1.33.8+k3s1"} {
		t.Run(version, func(t *testing.T) {
			r := LintFiles([]spec.File{{Name: "f", Data: []byte("apiVersion: plinth.dev/v1beta1\nkind: Installer\nmetadata: {name: a}\nspec: {k0s: {version: " + version + "}}\n")}})
			if problem.ExitCode(r.Err("lint")) != problem.ExitConfig || len(r.Findings) != 1 || !strings.Contains(r.Findings[0].String(), "k0s 1.33 to 1.36, such as v1.33.13+k0s.1") {
				t.Errorf("%v", r.Findings)
			}
		})
	}
}

// One run names what is wrong in several components: a wrong key or version hides no other.
func TestLintFiles_NamesProblemsOfSeveralComponentsTogether(t *testing.T) {
	const head = "apiVersion: plinth.dev/v1beta1\nkind: Installer\nmetadata: {name: a}\nspec:\n"
	for name, c := range map[string]struct {
		yaml string
		want []string
	}{
		"versions": {"  k0s: {version: v1.20.0+k0s.0}\n  kotsadm: {version: latest}\n  localPathStorage: {version: 0.0.31}\n  registry: {version: 1.x}\n",
			[]string{"[k0s-version] spec.k0s.version", "[version-exact] spec.kotsadm.version", "[add-on-known] spec.localPathStorage.version", "[version-exact] spec.registry.version"}},
		"an inexact k0s": {"  k0s: {version: latest}\n  localPathStorage: {version: 0.0.31}\n",
			[]string{"[version-exact] spec.k0s.version", "[add-on-known] spec.localPathStorage.version"}},
		"a pre-release": {"  k0s: {version: v1.33.8+k0s.1}\n  kotsadm: {version: 1.131.2-beta.1}\n  localPathStorage: {version: 0.0.30}\n",
			[]string{"[add-on-known] spec.kotsadm.version: 1.131.2-beta.1 is a pre-release"}},
		"preflights": {"  k0s: {version: v1.33.8+k0s.1}\n  hostPreflights: {collectors: [{copy: {path: /etc/shadow}}], analyzerz: []}\n",
			[]string{"[host-preflights] spec.hostPreflights.collectors[0]: collector copy is not supported", "[unknown-key] spec.hostPreflights.analyzerz"}},
		"outcomes": {"  k0s: {version: v1.33.8+k0s.1}\n  hostPreflights: {analyzers: [{memory: {outcomes: [{fail: {when: < 8Gx}}, {pass: {when: foo}}]}}]}\n",
			[]string{"[host-preflights] spec.hostPreflights.analyzers[0].memory.outcomes[0].when", "[host-preflights] spec.hostPreflights.analyzers[0].memory.outcomes[1].when"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := LintFiles([]spec.File{{Name: "f", Data: []byte(head + c.yaml)}})
			errs := slices.DeleteFunc(r.Findings, func(f spec.Finding) bool { return f.Severity == spec.Warning })
			if len(errs) != len(c.want) {
				t.Errorf("%v", errs)
			}
			for i, want := range c.want {
				if i < len(errs) && !strings.Contains(errs[i].String(), want) {
					t.Errorf("%v, want %q", errs[i], want)
				}
			}
		})
	}
}
