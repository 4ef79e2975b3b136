package spec_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

const header = "apiVersion: plinth.dev/v1beta1\nkind: Installer\nmetadata: {name: my-app}\n"
const minimal = header + "spec: {k0s: {version: v1.33.8+k0s.1}}\n"

// readFile returns a file with its base name.
func readFile(t testing.TB, path string) spec.File {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return spec.File{Name: filepath.Base(path), Data: data}
}

// examples returns the files in testdata by NAME: NAME.yaml, with NAME.app.yaml if
// there is one.
func examples(t testing.TB) map[string][]spec.File {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) < 50 {
		t.Fatalf("%d examples, %v", len(paths), err)
	}
	sets := map[string][]spec.File{}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		set := strings.TrimSuffix(name, ".app")
		sets[set] = append(sets[set], readFile(t, path))
	}
	return sets
}

// formatReport returns a report in the format of the goldens.
func formatReport(rep spec.Report) []byte {
	var b bytes.Buffer
	for _, f := range rep.Findings {
		fmt.Fprintln(&b, f)
	}
	if rep.Gate != nil {
		fmt.Fprintf(&b, "gate %s: %s\n", rep.Gate.Outcome, rep.Gate.Explain(rep.Title))
	}
	fmt.Fprintf(&b, "exit %d\n", problem.ExitCode(rep.Err("lint")))
	return b.Bytes()
}

func TestLint_MatchesGoldens(t *testing.T) {
	for name, files := range examples(t) {
		t.Run(name, func(t *testing.T) {
			testkit.Golden(t, "testdata/"+name+".golden", formatReport(spec.Lint(files)))
		})
	}
}

// unusualFiles returns files that are not stored in testdata, by the rule that they
// break.
func unusualFiles() map[string]string {
	many := minimal
	for i := range 500 {
		many += fmt.Sprintf("unknown%d: 1\n", i)
	}
	return map[string]string{
		"file-too-large": strings.Repeat("#", 10<<20),
		"not-text":       "\x7fELF\x02\x01\x01\x00\x00",
		"too-many":       many,
		"empty-file":     "",
		"kurl-installer": "apiVersion: cluster.kurl.sh/v1beta1\nkind: Installer\nmetadata: {name: a}\nspec: {kubernetes: {version: latest}}\n",
	}
}

// unknownAddOn is a Validator that reports one violation.
func unknownAddOn(*spec.Installer) []spec.Violation {
	return []spec.Violation{{Rule: "add-on-known", Path: "spec.k0s.config.spec.x", Message: "is not known"}}
}

func TestLint_RunsValidatorsOnlyWithoutErrors(t *testing.T) {
	for name, tc := range map[string]struct{ data, want string }{
		"without errors": {minimal, "j.yaml:4:13: error [add-on-known] spec.k0s.config.spec.x: is not known"},
		"with an error":  {minimal + "kind: again\n", "[duplicate-key]"},
	} {
		t.Run(name, func(t *testing.T) {
			rep := spec.Lint([]spec.File{{Name: "j.yaml", Data: []byte(tc.data)}}, unknownAddOn)
			if len(rep.Findings) != 1 || !strings.Contains(rep.Findings[0].String(), tc.want) {
				t.Errorf("%v, want %s", rep.Findings, tc.want)
			}
		})
	}
}

func TestRules_EachHasAnExampleThatBreaksIt(t *testing.T) {
	seen := map[string]bool{}
	note := func(rep spec.Report) {
		for _, f := range rep.Findings {
			seen[f.Rule] = true
		}
	}
	for _, files := range examples(t) {
		note(spec.Lint(files))
	}
	for _, data := range unusualFiles() {
		note(spec.Lint([]spec.File{{Name: "odd.yaml", Data: []byte(data)}}))
	}
	note(spec.Lint([]spec.File{{Name: "judged.yaml", Data: []byte(minimal)}}, unknownAddOn))
	for _, p := range pairs() {
		note(spec.Lint([]spec.File{{Name: "pair.yaml", Data: []byte(installPair(p))}}, spec.ValidateVersions))
	}
	old := installPair(spec.Pair{K0s: "v1.33.8+k0s.1", Kotsadm: "1.130.6"}) + "  velero: {version: 1.18.3}\n"
	note(spec.Lint([]spec.File{{Name: "velero.yaml", Data: []byte(old)}}, spec.ValidateVersions))
	for _, rule := range spec.Rules() {
		elsewhere := []string{"host-preflights", "k0s-config-later", "velero-backup", // of validators of other packages, tested there
			"chart-read", "chart-values", "chart-render", "chart-field", "chart-size", "chart-removed-api", "chart-port", "chart-object", "chart-namespace", "chart-kind", "chart-privileged", "chart-image-tag",
			"chart-autoscaler", "chart-image-pull", "chart-image-unknown", "chart-unchecked"}
		if !seen[rule.ID] && !slices.Contains(elsewhere, rule.ID) {
			t.Errorf("no example breaks %s", rule.ID)
		}
		delete(seen, rule.ID)
	}
	for id := range seen {
		t.Errorf("%s is reported but not in Rules", id)
	}
}

func TestParse_RejectsUnusualFiles(t *testing.T) {
	for rule, data := range unusualFiles() {
		t.Run(rule, func(t *testing.T) {
			_, findings := spec.ParseInstaller("odd.yaml", []byte(data))
			if !slices.ContainsFunc(findings, func(f spec.Finding) bool { return f.Rule == rule }) || len(findings) > 201 {
				t.Errorf("%d findings, the first %v", len(findings), findings[:1])
			}
			_, findings = spec.ParseApplications("odd.yaml", []byte(data))
			if !spec.HasErrors(findings) {
				t.Error("accepted as an Application")
			}
		})
	}
}

func TestParseInstaller_AcceptsEquivalentTexts(t *testing.T) {
	want, findings := spec.ParseInstaller("a", []byte(minimal))
	if len(findings) != 0 {
		t.Fatal(findings)
	}
	for name, data := range map[string]string{
		"CRLF":            strings.ReplaceAll(minimal, "\n", "\r\n"),
		"byte order mark": "\ufeff" + minimal,
		"document marks":  "---\n" + minimal + "...\n",
		"JSON":            `{"apiVersion":"plinth.dev/v1beta1","kind":"Installer","metadata":{"name":"my-app"},"spec":{"k0s":{"version":"v1.33.8+k0s.1"}}}`,
		"no last newline": strings.TrimSpace(minimal),
	} {
		t.Run(name, func(t *testing.T) {
			got, findings := spec.ParseInstaller("a", []byte(data))
			if len(findings) != 0 {
				t.Fatal(findings)
			}
			if digestOf(t, got) != digestOf(t, want) {
				t.Error("the digest differs")
			}
		})
	}
	t.Run("place of invalid UTF-8", func(t *testing.T) {
		if _, findings := spec.ParseInstaller("a", []byte("a: \"\xff\"\n")); findings[0].Line != 1 || findings[0].Column != 5 {
			t.Errorf("%v", findings[0])
		}
	})
}

// digestOf returns the digest of in.
func digestOf(t *testing.T, in *spec.Installer) string {
	t.Helper()
	d, err := in.Digest()
	if err != nil || len(d) != len("sha256:")+64 {
		t.Fatalf("digest %q, %v", d, err)
	}
	return d
}

func TestLint_AcceptsRootInstallerWithDefaults(t *testing.T) {
	f := readFile(t, "../../installer.yaml")
	rep := spec.Lint([]spec.File{f})
	if len(rep.Findings) != 0 || rep.Err("lint") != nil {
		t.Fatalf("findings %v, error %v", rep.Findings, rep.Err("lint"))
	}
	if rep.Gate == nil || rep.Gate.Outcome != compat.Unchecked || rep.Gate.Note == "" {
		t.Errorf("without an Application the gate should have a note that there is nothing to check: %+v", rep.Gate)
	}
	short := header + "spec: {k0s: {version: v1.33.8+k0s.1}, kotsadm: {version: 1.131.2}, localPathStorage: {version: 0.0.30}, registry: {version: 3.1.2}}"
	in, findings := spec.ParseInstaller("short", []byte(short))
	if len(findings) != 0 {
		t.Fatal(findings)
	}
	if digestOf(t, in) != digestOf(t, rep.Installer) {
		t.Error("installer.yaml has other values than the defaults")
	}
	want := []spec.Pin{{Key: "localPathStorage", Version: "0.0.30"}, {Key: "kotsadm", Version: "1.131.2"}, {Key: "registry", Version: "3.1.2"}}
	if !slices.Equal(in.AddOns(), want) {
		t.Errorf("add-ons %v", in.AddOns())
	}
	if first, last := in.Spec.Network.NodePorts(); first != 80 || last != 32767 {
		t.Errorf("node ports %d-%d", first, last)
	}
}

func TestParseInstaller_AcceptsCommentedKeysOfRootInstaller(t *testing.T) {
	f := readFile(t, "../../installer.yaml")
	text := regexp.MustCompile(`(?m)^( +)# ( *(?:- )?\w+:.*)$`).ReplaceAllString(string(f.Data), "$1$2")
	in, findings := spec.ParseInstaller("installer.yaml", []byte(text))
	if len(findings) != 0 {
		t.Fatalf("%v\n%s", findings, text)
	}
	if in.Spec.K0s.Config == nil || in.Spec.Kotsadm.Hostname == "" || len(in.Spec.Proxy.NoProxy) == 0 || in.Spec.HostPreflights.Collectors == nil || len(in.Spec.Charts) == 0 {
		t.Errorf("a commented key was not read: %+v", in.Spec)
	}
}

func TestMarshal_IsCanonical(t *testing.T) {
	for name, files := range examples(t) {
		in, _ := spec.ParseInstaller(name, files[0].Data)
		if in == nil {
			in, _ = spec.ParseInstaller(name, files[len(files)-1].Data)
		}
		if in == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			data, err := in.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			again, findings := spec.ParseInstaller(name, data)
			if spec.HasErrors(findings) || digestOf(t, again) != digestOf(t, in) {
				t.Errorf("%v\n%s", findings, data)
			}
		})
	}
}

func TestLint_MessagesContainNoSecrets(t *testing.T) {
	for name, files := range examples(t) {
		t.Run(name, func(t *testing.T) {
			text := string(formatReport(spec.Lint(files)))
			if strings.Contains(text, "hunter2") || strings.Contains(text, "user@") {
				t.Error(text)
			}
		})
	}
}

func TestLint_MessagesAreOnePrintableLine(t *testing.T) {
	for name, files := range examples(t) {
		t.Run(name, func(t *testing.T) {
			for _, f := range spec.Lint(files).Findings {
				if strings.ContainsFunc(f.String(), func(c rune) bool { return c < ' ' || c == 0x7f }) {
					t.Errorf("%q", f)
				}
				if f.Line < 1 || f.Column < 1 || f.Severity == "" {
					t.Errorf("no place or severity: %+v", f)
				}
			}
		})
	}
}

func TestLint_RejectsTwoInstallers(t *testing.T) {
	f := spec.File{Name: "a.yaml", Data: []byte(minimal)}
	rep := spec.Lint([]spec.File{f, {Name: "b.yaml", Data: f.Data}})
	if len(rep.Findings) != 1 || rep.Findings[0].Rule != "one-document" || rep.Findings[0].File != "b.yaml" {
		t.Errorf("got %v", rep.Findings)
	}
}

func TestReport_HasStableJSON(t *testing.T) {
	clean, err := json.Marshal(spec.Lint([]spec.File{{Name: "a.yaml", Data: []byte(minimal)}}))
	if err != nil || string(clean) != `{"findings":[]}` {
		t.Errorf("%s, %v", clean, err)
	}
	rep, err := json.Marshal(spec.Lint([]spec.File{readFile(t, "testdata/gate-target.yaml"), readFile(t, "testdata/gate-target.app.yaml")}))
	want := `{"title":"My App","findings":[],"gate":{"outcome":"block","firstInstall":true,"actual":"1.131.2","bound":"spec.targetKotsVersion","value":"1.75","normalized":"1.75.0"}}`
	if err != nil || string(rep) != want {
		t.Errorf("%s, %v", rep, err)
	}
}

func TestReport_WithoutGateTurnsInvalidBoundsIntoWarnings(t *testing.T) {
	in := readFile(t, "testdata/gate-undecidable.yaml")
	for app, want := range map[string]int{"gate-undecidable.app.yaml": problem.ExitOK, "app-bounds.yaml": problem.ExitOK, "app-numbers.yaml": problem.ExitOK} {
		t.Run(app, func(t *testing.T) {
			rep := spec.Lint([]spec.File{in, readFile(t, "testdata/"+app)})
			if problem.ExitCode(rep.Err("install")) != problem.ExitConfig || rep.Applications != nil {
				t.Error("accepted with invalid bounds")
			}
			skipped := rep.WithoutGate()
			if got := problem.ExitCode(spec.FindingsError("install", skipped.Findings)); got != want || (skipped.Applications != nil) != (want == 0) {
				t.Errorf("exit %d, want %d; application %v", got, want, skipped.Applications)
			}
			if len(skipped.Findings) != len(rep.Findings) || !spec.HasErrors(rep.Findings) {
				t.Error("a finding is missing, or the original report was changed")
			}
		})
	}
}

func TestCheckGate_IgnoresTargetOfUpdate(t *testing.T) {
	rep := spec.Lint([]spec.File{readFile(t, "testdata/gate-target.yaml"), readFile(t, "testdata/gate-target.app.yaml")})
	first, _ := spec.CheckGate(rep.Installer, rep.Applications, true)
	update, _ := spec.CheckGate(rep.Installer, rep.Applications, false)
	if first.Allowed() || !update.Allowed() {
		t.Errorf("first %+v, update %+v", first, update)
	}
	err := spec.GateError("install My App", first, rep.Title)
	if problem.ExitCode(err) != problem.ExitGate || !strings.Contains(problem.Hint(err), "nothing on this host has changed") {
		t.Errorf("%v, hint %s", err, problem.Hint(err))
	}
	undecidable := compat.Check(compat.Input{Actual: "1.0.0", Min: "x"})
	if problem.ExitCode(spec.GateError("install", undecidable, "")) != problem.ExitConfig {
		t.Error("an undecidable gate should be exit 3")
	}
	if v, _ := spec.CheckGate(nil, nil, true); !v.Allowed() || v.Note == "" {
		t.Errorf("got %+v", v)
	}
}
