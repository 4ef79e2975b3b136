package spec_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

func TestParseApplications_IgnoresOtherKeysOfKOTS(t *testing.T) {
	data, err := os.ReadFile("testdata/gate-pass.app.yaml")
	if err != nil {
		t.Fatal(err)
	}
	data = append(data, "  unknownToPlinth: {1: 2, when: 2026-01-02, deep: [[[]]]}\n  graphs: [{title: x, durationSeconds: 5.5}]\n"...)
	apps, findings := spec.ParseApplications("a", data)
	if len(apps) != 1 || len(findings) != 0 {
		t.Fatalf("%v %v", apps, findings)
	}
	if app := apps[0]; !slices.Equal([]string{app.Title, app.MinKotsVersion, app.TargetKotsVersion}, []string{"My App", "1.100.0", "v1.131.2"}) {
		t.Errorf("got %+v", app)
	}
}

const oldApplication = "apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: my-app}\nspec:\n  title: Toy\n  targetKotsVersion: 1.130.0\n"

func TestLint_WarnsOfWhatKOTSDecodesInItsOwnWay(t *testing.T) {
	installer := readFile(t, "testdata/gate-pass.yaml")
	with := func(old, new string) string { return strings.Replace(oldApplication, old, new, 1) }
	for name, c := range map[string]struct {
		data string
		rule string // of the only finding; "" for none
		exit int    // with the add-on 1.131.2
	}{
		"an old target":                {oldApplication, "", problem.ExitGate},
		"after --- and a comment":      {"kind: ConfigMap\n--- # the app\n" + oldApplication, "", problem.ExitGate},
		"after --- and a tab":          {"kind: ConfigMap\n---\t\n" + oldApplication, "", problem.ExitGate},
		"after ---#":                   {"kind: ConfigMap\n---# the app\n" + oldApplication, "", problem.ExitGate},
		"second of two":                {with("1.130.0", "1.131.2") + "---\n" + oldApplication, "", problem.ExitGate},
		"first of two":                 {oldApplication + "---\n" + with("1.130.0", "1.131.2"), "", problem.ExitGate},
		"without bounds, then an old":  {with("  targetKotsVersion: 1.130.0\n", "") + "---\n" + oldApplication, "", problem.ExitGate},
		"a number as title":            {with("Toy", "123"), "wrong-type", problem.ExitGate},
		"a number as name":             {with("my-app", "123"), "wrong-type", problem.ExitGate},
		"yes as title":                 {with("Toy", "yes"), "wrong-type", problem.ExitGate},
		"informers that are no list":   {oldApplication + "  statusInformers: x\n", "wrong-type", problem.ExitGate},
		"an anchor":                    {with("Toy", "&t Toy"), "no-anchors", problem.ExitGate},
		"a merge key after the target": {with("1.130.0", "1.131.2") + "  <<: {targetKotsVersion: 1.130.0}\n", "no-anchors", problem.ExitGate},
		"a merge key before it":        {with("title: Toy", "<<: {targetKotsVersion: 1.131.2}"), "no-anchors", problem.ExitGate},
		"a title twice":                {oldApplication + "  title: Toy\n", "duplicate-key", problem.ExitGate},
		"a target twice, an old last":  {with("1.130.0", "1.131.2") + "  targetKotsVersion: 1.130.0\n", "duplicate-key", problem.ExitGate},
		"a target twice, an old first": {oldApplication + "  targetKotsVersion: 1.131.2\n", "duplicate-key", problem.ExitOK},
		"a deep value":                 {oldApplication + "  x: " + strings.Repeat("[", 60) + strings.Repeat("]", 60) + "\n", "too-deep", problem.ExitGate},
		"an unknown key":               {oldApplication + "  x: {1: 2}\n", "", problem.ExitGate},
		"a JSON slash":                 {`{"apiVersion": "kots.io\/v1beta1", "kind": "Application", "spec": {"targetKotsVersion": "1.130.0"}}`, "", problem.ExitGate},
		"broken after the document":    {oldApplication + "--- text\n[", "", problem.ExitGate},
		"a number as target":           {with("1.130.0", "1.130"), "app-version", problem.ExitConfig},
		"no spec":                      {"apiVersion: kots.io/v1beta1\nkind: Application\nspec: []\n", "app-version", problem.ExitConfig},
		"a template as target":         {with("1.130.0", "repl{{ ConfigOption \"v\" }}"), "app-version", problem.ExitConfig},
		"a quoted template as target":  {with("1.130.0", "'{{repl ConfigOption \"v\" }}'"), "app-version", problem.ExitConfig},
		"a template not in quotes":     {with("Toy", "{{repl ConfigOption \"v\" }}"), "app-template", problem.ExitConfig},
		"a template on its own line":   {with("spec:\n", "spec:\n  {{repl if true }}\n"), "app-template", problem.ExitConfig},
		"a template in a comment":      {with("spec:\n", "spec:\n  # {{repl if true }}\n"), "", problem.ExitGate},
		"a template in quotes":         {with("Toy", "'{{repl ConfigOption \"v\" }}'"), "", problem.ExitGate},
	} {
		t.Run(name, func(t *testing.T) {
			rep := spec.Lint([]spec.File{installer, {Name: "app.yaml", Data: []byte(c.data)}})
			rules := ""
			for _, f := range rep.Findings {
				rules += f.Rule
				if strings.Contains(f.Rule, "app-") != (f.Severity == spec.Error) {
					t.Errorf("wrong severity: %s", f)
				}
			}
			if rules != c.rule || problem.ExitCode(rep.Err("lint")) != c.exit {
				t.Errorf("findings %v, %v; want %q, exit %d", rep.Findings, rep.Err("lint"), c.rule, c.exit)
			}
		})
	}
}

func TestLint_NamesTemplates(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"a value": {"Toy", "{{repl ConfigOption \"v\" }}", `app.yaml:5:10: error [app-template] contains the template "{{repl ConfigOption \"v\" }}" (KOTS decodes`},
		"a line":  {"spec:\n", "spec:\n    {{repl if true }}\n", `app.yaml:5:5: error [app-template] contains the template "{{repl if true }}" (KOTS decodes`},
		"a bound": {"1.130.0", "repl{{ x }}", `app.yaml:6:22: error [app-version] spec.targetKotsVersion: "repl{{ x }}" is a template (KOTS compares`},
	} {
		t.Run(name, func(t *testing.T) {
			_, findings := spec.ParseApplications("app.yaml", []byte(strings.Replace(oldApplication, c.old, c.new, 1)))
			if len(findings) != 1 || !strings.HasPrefix(findings[0].String(), c.want) {
				t.Errorf("%v\nwant %s", findings, c.want)
			}
		})
	}
}
