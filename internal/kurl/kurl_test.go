package kurl

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

// known are the versions for the tests; there is no velero among them.
var known = Versions{"k0s": "v1.33.8+k0s.1", "kotsadm": "1.131.2", "localPathStorage": "0.0.30", "registry": "3.1.2"}

// lint lints an Installer as the product does, with an add-on table of the test.
func lint(text []byte) []spec.Finding {
	return spec.Lint([]spec.File{{Name: "installer.yaml", Data: text}}, func(in *spec.Installer) []spec.Violation {
		var all []spec.Violation
		for _, pin := range in.AddOns() {
			if known[pin.Key] != pin.Version {
				all = append(all, spec.Violation{Rule: "add-on-known", Path: "spec." + pin.Key + ".version", Message: pin.Version + " is not supported"})
			}
		}
		for i, a := range in.Spec.HostPreflights.Analyzers {
			if a["cpu"] == nil && a["memory"] == nil {
				all = append(all, spec.Violation{Rule: "host-preflights", Path: fmt.Sprintf("spec.hostPreflights.analyzers[%d]", i), Message: "is not supported"})
			}
		}
		return all
	}).Findings
}

// installerCase is one kURL Installer with the verdicts that it must get.
type installerCase struct {
	Name string            `yaml:"name"`
	Spec yaml.Node         `yaml:"spec"`
	Want map[string]string `yaml:"want"` // by path below spec: the verdict, then words of the note
	Gets map[string]string `yaml:"gets"` // by path in the Plinth Installer: the value; "-" for none
}

func TestConvert_JudgesEveryKey(t *testing.T) {
	raw, err := os.ReadFile("testdata/installers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cases []installerCase
	if err := yaml.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 40 {
		t.Errorf("only %d Installers", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			got := convertSpec(t, &c.Spec)
			verdicts := map[string]string{}
			for _, k := range got.Keys {
				if path, ok := strings.CutPrefix(k.Path, "spec."); ok {
					verdicts[path] = string(k.Verdict) + " " + k.Note
				}
			}
			for path, want := range c.Want {
				verdict, words, _ := strings.Cut(want, " ")
				if have := verdicts[path]; !strings.HasPrefix(have, verdict+" ") || !strings.Contains(have, words) {
					t.Errorf("%s is %q, want %q", path, have, want)
				}
				delete(verdicts, path)
			}
			for path, have := range verdicts {
				t.Errorf("%s is %q, and the case does not expect it", path, have)
			}
			for path, want := range c.Gets {
				if have := valueAt(got.Installer, path); have != want {
					t.Errorf("the Plinth Installer has %s %q, want %q", path, have, want)
				}
			}
		})
	}
}

// convertSpec converts a kURL Installer with this spec, and checks what holds for all.
func convertSpec(t *testing.T, n *yaml.Node) Conversion {
	t.Helper()
	text, err := yaml.Marshal(map[string]any{"apiVersion": "cluster.kurl.sh/v1beta1", "kind": "Installer", "metadata": map[string]any{"name": "sample"}, "spec": n})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Convert("kurl.yaml", text, known, lint)
	if err != nil {
		t.Fatal(err)
	}
	if findings := lint(got.YAML); spec.HasErrors(findings) {
		t.Errorf("lint refuses the result: %v\n%s", findings, got.YAML)
	}
	return got
}

// valueAt returns the value at a path of m as text; "-" if there is none.
func valueAt(m map[string]any, path string) string {
	var at any = m
	for name := range strings.SplitSeq(path, ".") {
		inner, _ := at.(map[string]any)
		if at = inner[name]; at == nil {
			return "-"
		}
	}
	return fmt.Sprint(at)
}

func TestConvert_WritesTheWholeExample(t *testing.T) {
	raw, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Convert("full.yaml", raw, known, lint)
	if err != nil {
		t.Fatal(err)
	}
	report := string(got.YAML)
	for _, k := range got.Keys {
		report += fmt.Sprintf("# %-10s %s: %s\n", k.Verdict, k.Path, k.Note)
	}
	testkit.Golden(t, filepath.Join("testdata", "full.golden"), []byte(report))
}

func TestConvert_RefusesOtherFiles(t *testing.T) {
	const head = "kind: Installer\nmetadata: {name: a}\nspec: {kubernetes: {version: 1.27.x}}\n"
	for name, c := range map[string]struct{ text, want string }{
		"an Installer of Plinth": {"apiVersion: plinth.dev/v1beta1\n" + head, "plinth lint f.yaml"},
		"nothing":                {"# only a comment\n", "no Installer of kURL: it is empty"},
		"emptied by the shell":   {"", "write the result to another file"},
		"not YAML":               {"a: b: c\n", "yaml-syntax"},
		"not text":               {"\x1f\x8b\x08", "not-text"},
		"a list":                 {"- a\n", "no Installer of kURL"},
		"a key that is repeated": {"apiVersion: cluster.kurl.sh/v1beta1\n" + head + "spec: {}\n", "duplicate-key"},
		"a second Installer":     {"apiVersion: cluster.kurl.sh/v1beta1\n" + head + "---\napiVersion: cluster.kurl.sh/v1beta1\n" + head, "f.yaml:6:1: error [one-document] is the second Installer of kURL"},
		"a spec that is text":    {"apiVersion: cluster.kurl.sh/v1beta1\nkind: Installer\nspec: hi\n", "[wrong-type] spec: must be a mapping, found text"},
		"a spec that is a list":  {"apiVersion: cluster.kurl.sh/v1beta1\nkind: Installer\nspec: []\n", "[wrong-type] spec: must be a mapping, found a list"},
		"an anchor":              {"apiVersion: cluster.kurl.sh/v1beta1\nkind: Installer\nspec: &a {kubernetes: {version: 1.27.x}}\n", "no-anchors"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Convert("f.yaml", []byte(c.text), known, lint)
			if problem.ExitCode(err) != problem.ExitConfig || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("exit %d, want %q: %v", problem.ExitCode(err), c.want, err)
			}
			if !strings.Contains(problem.Hint(err), "plinth convert kurl f.yaml") {
				t.Errorf("the hint is %q", problem.Hint(err))
			}
		})
	}
}

func TestConvert_FindsTheInstallerAndItsName(t *testing.T) {
	for name, c := range map[string]struct{ text, name string }{
		"after another document":    {"kind: ConfigMap\napiVersion: v1\n---\napiVersion: cluster.kurl.sh/v1beta1\nkind: Installer\nmetadata: {name: b}\n", "b"},
		"with the first apiVersion": {"apiVersion: kurl.sh/v1beta1\nkind: Installer\nmetadata: {name: old}\n", "old"},
		"without a name":            {"apiVersion: kurl.sh/v1beta1\nkind: Installer\nmetadata: {name: ''}\nspec: {}\n", "my-app"},
		"with a name that is none":  {"apiVersion: kurl.sh/v1beta1\nkind: Installer\nmetadata: {name: My App}\nspec: {kotsadm: {version: latest, applicationSlug: shop}}\n", "shop"},
		"without anything else":     {"apiVersion: kurl.sh/v1beta1\nkind: Installer\n", "my-app"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Convert("f.yaml", []byte(c.text), known, lint)
			if err != nil || valueAt(got.Installer, "metadata.name") != c.name {
				t.Errorf("name %q, %v", valueAt(got.Installer, "metadata.name"), err)
			}
		})
	}
}

func TestTable_HasOneRowForEachKeyAndANoteForEachVerdict(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range table {
		if r.convert == nil && (r.note == "" || !slices.Contains(Verdicts(), r.verdict)) {
			t.Errorf("%s %s has no note or no verdict", r.group, r.keys)
		}
		for key := range strings.FieldsSeq(r.keys) {
			if path := r.group + "." + key; seen[path] {
				t.Errorf("%s has two rows", path)
			} else {
				seen[path] = true
			}
		}
	}
}

// TestTable_CoversKURL compares the table with the number of fields of each type of
// kurlkinds, without s3Override, at its last commit.
func TestTable_CoversKURL(t *testing.T) {
	want := map[string]int{"kubernetes": 24, "containerd": 3, "docker": 7, "flannel": 3, "weave": 5, "antrea": 4, "calico": 1, "contour": 4,
		"openebs": 6, "minio": 4, "rook": 10, "longhorn": 4, "registry": 2, "kotsadm": 7, "velero": 8, "prometheus": 2, "ekco": 17, "certManager": 1,
		"metricsServer": 1, "goldpinger": 1, "collectd": 1, "sonobuoy": 1, "fluentd": 3, "aws": 2, "helm": 2, "k3s": 1, "rke2": 1,
		"firewalldConfig": 6, "iptablesConfig": 2, "selinuxConfig": 6, "ufwConfig": 3, "kurl": 17}
	got := map[string]int{}
	for path := range rowsByPath() {
		parts := strings.Split(path, ".")
		if len(parts) == 3 && parts[0] == "spec" && parts[2] != "s3Override" {
			got[parts[1]]++
		}
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s has %d keys, want %d", name, got[name], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d groups, want %d", len(got), len(want))
	}
}

func FuzzConvert(f *testing.F) {
	f.Add([]byte("apiVersion: cluster.kurl.sh/v1beta1\nkind: Installer\nmetadata: {name: a}\nspec: {kubernetes: {version: 1.27.x}, kotsadm: {version: latest, uiBindPort: 6443}}\n"))
	f.Add([]byte("apiVersion: kurl.sh/v1beta1\nkind: Installer\nspec: {kurl: {hostPreflights: {spec: {analyzers: [{cpu: {}}, 7]}}, additionalNoProxyAddresses: [a, {b: c}]}}\n"))
	if raw, err := os.ReadFile("testdata/full.yaml"); err == nil {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Convert("f.yaml", data, known, lint)
		switch {
		case problem.ExitCode(err) == problem.ExitInternal:
			t.Fatal(err)
		case err == nil && spec.HasErrors(lint(got.YAML)):
			t.Fatalf("lint refuses the result: %v\n%s", lint(got.YAML), got.YAML)
		}
	})
}

// A new cluster should not get versions that lint warns of without a word.
func TestConvert_NamesWarningsAboutTheVersionsItWrites(t *testing.T) {
	text := "apiVersion: cluster.kurl.sh/v1beta1\nkind: Installer\nmetadata: {name: a}\nspec: {kubernetes: {version: latest}, kotsadm: {version: latest}}\n"
	got, err := Convert("f.yaml", []byte(text), known, func(data []byte) []spec.Finding {
		return spec.Lint([]spec.File{{Name: "installer.yaml", Data: data}}, spec.ValidateVersions).Findings
	})
	testkit.Must(t, err)
	for path, want := range map[string]string{"spec.kubernetes.version": "no fixes since its end of life", "spec.kotsadm.version": "KOTS 1.131.2 supports Kubernetes 1.34 to 1.36"} {
		if !slices.ContainsFunc(got.Keys, func(k Key) bool { return k.Path == path && k.Verdict == ByHand && strings.Contains(k.Note, want) }) {
			t.Errorf("no %q in %+v", want, got.Keys)
		}
	}
}
