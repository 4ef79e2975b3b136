package supportspec

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/supportbundle"
	"github.com/plinthdev/plinth/internal/testkit"
)

const bundleSpec = `apiVersion: troubleshoot.sh/v1beta2
kind: SupportBundle
metadata: {name: my-app}
spec:
  uri: https://example.com/spec.yaml
  collectors:
    - clusterInfo: {}
    - logs:
        collectorName: app
        name: app/logs
        namespace: shop
        selector: [app=web, tier notin (db)]
        containerNames: [web]
        limits: {maxAge: 48h, maxLines: 100}
    - configMap: {name: settings, namespace: shop, key: mode, includeValue: true}
    - secret: {selector: [app=web]}
    - data: {name: static, collectorName: note.txt, data: "hello\n"}
    - nodeMetrics:
    - exec: {name: anything, command: [ls], args: {not: a list}}
    - logs: {selector: [], exclude: "true"}
  hostCollectors:
    - cpu: {}
    - journald: {collectorName: web, units: [web.service], lines: 10, reverse: true, timeout: 5s}
    - copy: {collectorName: conf, path: /etc/my-app/*.conf}
    - diskUsage: {collectorName: data, path: /data}
    - run: {command: ls}
  analyzers:
    - clusterVersion: {}
`

const redactorSpec = `apiVersion: troubleshoot.sh/v1beta2
kind: Redactor
metadata: {name: my-app, creationTimestamp: null}
spec:
  redactors:
    - name: Customers
      fileSelector: {file: a.txt, files: ["b/*"]}
      removals:
        values: [acme]
        regex:
          - redactor: '(id: )(?P<mask>\d+)'
          - {selector: name, redactor: '(?P<mask>x)'}
        yamlPath: [users.*.pin]
status: {}
`

func TestParse_ReadsCollectors(t *testing.T) {
	s, findings := Parse("spec.yaml", []byte(bundleSpec))
	if len(findings) > 0 {
		t.Fatalf("%v", findings)
	}
	var kinds []string
	for _, c := range append(slices.Clone(s.Collectors), s.HostCollectors...) {
		kinds = append(kinds, c.Kind)
	}
	if want := []string{"clusterInfo", "logs", "configMap", "secret", "data", "nodeMetrics", "exec", "cpu", "journald", "copy", "diskUsage", "run"}; !slices.Equal(kinds, want) {
		t.Fatalf("%q", kinds)
	}
	logs := s.Collectors[1]
	if logs.From != "spec.collectors[1].logs" || logs.Name != "app/logs" || logs.Namespace != "shop" || !slices.Equal(logs.Selector, []string{"app=web", "tier notin (db)"}) ||
		!slices.Equal(logs.ContainerNames, []string{"web"}) || logs.Limits.MaxAge != "48h" || logs.Limits.MaxLines != 100 {
		t.Errorf("%+v", logs)
	}
	if c := s.Collectors[2]; c.Name != "settings" || c.Key != "mode" || !c.IncludeValue {
		t.Errorf("%+v", c)
	}
	if c := s.Collectors[4]; c.Name != "static" || c.CollectorName != "note.txt" || c.Data != "hello\n" {
		t.Errorf("%+v", c)
	}
	if c := s.HostCollectors[1]; c.CollectorName != "web" || !slices.Equal(c.Units, []string{"web.service"}) || c.Lines != 10 || !c.Reverse || c.Timeout != "5s" {
		t.Errorf("%+v", c)
	}
	if c := s.HostCollectors[2]; c.Path != "/etc/my-app/*.conf" {
		t.Errorf("%+v", c)
	}
	raw, err := json.Marshal(s.Bundles)
	testkit.Must(t, err)
	if len(s.Bundles) != 1 || !strings.Contains(string(raw), `"kind":"SupportBundle"`) || !slices.Equal(s.URIs, []string{"https://example.com/spec.yaml"}) {
		t.Errorf("%s, %q", raw, s.URIs)
	}
}

func TestParse_ReadsAKnownTime(t *testing.T) {
	s, findings := Parse("a", []byte("apiVersion: troubleshoot.sh/v1beta2\nkind: Collector\nspec: {collectors: [{logs: {selector: [], limits: {sinceTime: \"2026-01-02T12:00:00Z\"}}}]}\n"))
	if len(findings) > 0 || !s.Collectors[0].Limits.SinceTime.Equal(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v, %v", s, findings)
	}
}

// redact returns the content of the file a.txt without what rules remove.
func redact(rules []supportbundle.VendorRule, content string) string {
	r, _ := supportbundle.NewRedactor().WithVendorRules(rules)
	return string(r.Redact("a.txt", []byte(content)))
}

func TestParse_ReadsSpecsWhereverTheyAre(t *testing.T) {
	indent := func(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n" }
	const object = "apiVersion: v1\nkind: %s\nmetadata: {name: a, labels: {troubleshoot.sh/kind: support-bundle}}\n%s:\n  %s: %s"
	for name, text := range map[string]string{
		"documents":           "# a comment\n---\n" + bundleSpec + "---\napiVersion: v1\nkind: Service\n---\n" + redactorSpec,
		"other kinds":         bundleSpec + "---\n" + redactorSpec + "---\napiVersion: troubleshoot.sh/v1beta2\nkind: Preflight\nspec: {}\n---\napiVersion: kots.io/v1beta1\nkind: Application\n",
		"a ConfigMap":         fmt.Sprintf(object, "ConfigMap", "data", BundleKey, "|\n"+indent(bundleSpec+"---\n"+redactorSpec)),
		"a Secret":            fmt.Sprintf(object, "Secret", "data", BundleKey, base64.StdEncoding.EncodeToString([]byte(bundleSpec+"---\n"+redactorSpec))),
		"text in a Secret":    fmt.Sprintf(object, "Secret", "stringData", BundleKey, "|\n"+indent(bundleSpec)) + "  " + RedactorKey + ": |\n" + indent(redactorSpec),
		"redactors of KOTS":   fmt.Sprintf(object, "ConfigMap", "data", BundleKey, "|\n"+indent(bundleSpec)) + "  " + KotsRedactorKey + ": |\n" + indent(redactorSpec),
		"anchors and aliases": strings.Replace(bundleSpec, "metadata: {name: my-app}", "metadata: {name: my-app, labels: &m {a: b}, annotations: *m}", 1) + "---\n" + redactorSpec,
		"an older version":    strings.Replace(bundleSpec, "troubleshoot.sh/v1beta2", "troubleshoot.replicated.com/v1beta1", 1) + "---\n" + redactorSpec,
	} {
		t.Run(name, func(t *testing.T) {
			s, findings := Parse("spec.yaml", []byte(text))
			if len(findings) > 0 || len(s.Collectors) != 7 || len(s.HostCollectors) != 5 || len(s.Rules) != 1 || len(s.Bundles) != 1 {
				t.Fatalf("%+v, %v", s, findings)
			}
			if got := redact(s.Rules, "acme id: 17\nname\nx"); got != "***REDACTED:vendor-customers*** id: ***REDACTED:vendor-customers***\nname\n***REDACTED:vendor-customers***" {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestParse_NamesEveryProblem(t *testing.T) {
	const head = "apiVersion: troubleshoot.sh/v1beta2\nkind: "
	for name, c := range map[string]struct {
		text string
		want []string // beginnings of findings
	}{
		"syntax":      {"kind: [\n", []string{"f:2:1: error [yaml-syntax]"}},
		"no document": {"# nothing\n", []string{"f:1:1: error [required] has no spec for a support bundle"}},
		"other files": {"apiVersion: v1\nkind: Service\n", []string{"f:1:1: error [required] has no spec for a support bundle"}},
		"a list":      {"- a\n", []string{"f:1:1: error [wrong-type] must be a mapping, found a list"}},
		"text":        {"text\n---\n" + head + "SupportBundle\nspec: {}\n", []string{"f:1:1: error [wrong-type] document 1: must be a mapping, found text"}},
		"a kind":      {head + "Suportbundle\n", []string{`f:1:1: error [unknown-key] kind: is not a kind of troubleshoot.sh: "Suportbundle"`}},
		"a key":       {head + "SupportBundle\nspec:\n  collector: []\n", []string{"f:4:3: error [unknown-key] spec.collector: unknown key (did you mean collectors?)"}},
		"no spec":     {head + "SupportBundle\n", []string{"f:1:1: error [required] spec: is missing"}},
		"collectors": {head + "SupportBundle\nspec:\n  collectors:\n    - log: {}\n    - text\n    - logs: {selector: app}\n    - logs: {selector: ['a b'], limits: {maxAge: long}, name: ../x}\n    - configMap: {namespace: a}\n" +
			"  hostCollectors: {cpu: {}}\n---\n" + head + "HostCollector\nspec:\n  collectors:\n    - journald: {lines: many}\n    - journald: {}\n    - copy: {path: a}\n    - copy: {path: '/a/['}\n", []string{
			"f:5:7: error [unknown-key] document 1: spec.collectors[0].log: is not a collector that troubleshoot.sh has here (did you mean logs?)",
			"f:6:7: error [wrong-type] document 1: spec.collectors[1]: must be a mapping, found",
			`f:7:24: error [wrong-type] document 1: spec.collectors[2].logs.selector: must be a list, found text (write ["app"])`,
			"f:8:24: error [wrong-type] document 1: spec.collectors[3].logs.selector: is not a label selector",
			"f:8:50: error [wrong-type] document 1: spec.collectors[3].logs.limits.maxAge: is not a duration",
			"f:8:63: error [wrong-type] document 1: spec.collectors[3].logs.name: is not a name in the bundle",
			"f:9:18: error [wrong-type] document 1: spec.collectors[4].configMap.name: is missing",
			"f:10:19: error [wrong-type] document 1: spec.hostCollectors: must be a list, found a mapping",
			"f:16:17: error [wrong-type] document 2: spec.collectors[0].journald.collectorName: is missing",
			"f:16:25: error [wrong-type] document 2: spec.collectors[0].journald.lines: must be a whole number, found text",
			"f:17:17: error [wrong-type] document 2: spec.collectors[1].journald.collectorName: is missing",
			"f:18:20: error [wrong-type] document 2: spec.collectors[2].copy.path: is not an absolute path",
			"f:19:20: error [wrong-type] document 2: spec.collectors[3].copy.path: is not a pattern of names"}},
		"types": {head + "SupportBundle\nmetadata: [1]\nstatus: {}\nother: 1\nspec:\n  uri: [a]\n  analyzers: [a]\n  runHostCollectorsInPod: 1\n  collectors:\n    - {}\n    - {logs: , data: }\n    - clusterInfo: text\n    - exec: [1]\n" +
			"    - logs: {selector: [1], namespce: a, limits: {maxLine: 1, sinceTime: today}, timestamps: 'true'}\n    - configMap:\n    - data: {name: [1], data: 5, exclude: maybe}\n  hostCollectors:\n    - null\n    - cpu: 1\n    - copy: {paht: /a}\n", []string{
			"f:3:11: error [wrong-type] metadata: must be a mapping, found a list",
			"f:5:1: error [unknown-key] other: unknown key (known keys: apiVersion, kind, metadata, spec)",
			"f:7:8: error [wrong-type] spec.uri: must be text, found a list",
			"f:8:15: error [wrong-type] spec.analyzers[0]: must be a mapping, found text",
			"f:9:27: error [wrong-type] spec.runHostCollectorsInPod: must be true or false, found a number",
			"f:11:7: error [required] spec.collectors[0]: names no collector (remove it, or write it like - clusterInfo: {})",
			"f:12:7: error [required] spec.collectors[1]: names no collector",
			"f:13:20: error [wrong-type] spec.collectors[2].clusterInfo: must be a mapping, found text",
			"f:14:13: error [wrong-type] spec.collectors[3].exec: must be a mapping, found a list",
			"f:15:25: error [wrong-type] spec.collectors[4].logs.selector[0]: must be text, found a number",
			"f:15:29: error [unknown-key] spec.collectors[4].logs.namespce: unknown key (did you mean namespace?)",
			"f:15:51: error [unknown-key] spec.collectors[4].logs.limits.maxLine: unknown key (did you mean maxLines?)",
			"f:15:74: error [wrong-type] spec.collectors[4].logs.limits.sinceTime: is not a time (write it like 2026-01-02T12:00:00Z)",
			"f:15:94: error [wrong-type] spec.collectors[4].logs.timestamps: must be true or false, found text",
			"f:16:17: error [wrong-type] spec.collectors[5].configMap.name: is missing",
			"f:17:20: error [wrong-type] spec.collectors[6].data.name: must be text, found a list",
			`f:17:31: error [wrong-type] spec.collectors[6].data.data: must be text, found a number (quote it: "5")`,
			"f:17:43: error [wrong-type] spec.collectors[6].data.exclude: must be true or false, found text",
			"f:19:7: error [wrong-type] spec.hostCollectors[0]: must be a mapping, found nothing",
			"f:20:12: error [wrong-type] spec.hostCollectors[1].cpu: must be a mapping, found a number",
			"f:21:13: error [wrong-type] spec.hostCollectors[2].copy.path: is not an absolute path",
			"f:21:14: error [unknown-key] spec.hostCollectors[2].copy.paht: unknown key (known keys: collectorName, exclude, path)"}},
		"a spec of another type": {head + "SupportBundle\nspec: [1]\n", []string{"f:3:7: error [wrong-type] spec: must be a mapping, found a list"}},
		"data of another type": {"apiVersion: v1\nkind: Secret\ndata: [1]\nstringData: {" + BundleKey + ": [1]}\n", []string{
			"f:3:7: error [wrong-type] data: must be a mapping, found a list", "f:4:35: error [wrong-type] stringData.support-bundle-spec: must be text, found a list"}},
		"redactors": {head + "Redactor\nspec:\n  redactors:\n    - name: a\n      removals:\n        regexp: []\n        values: [a]\n    - removals:\n        regex:\n          - redactor: '('\n        yamlPath: ['']\n    - fileSelector: {files: ['[']}\n", []string{
			`f:7:9: error [unknown-key] spec.redactors[0].removals.regexp: unknown key (did you mean "regex"?)`,
			"f:11:23: error [wrong-type] spec.redactors[1].removals.regex[0].redactor: is not a regular expression of RE2: missing closing ): `(`",
			"f:12:19: error [wrong-type] spec.redactors[1].removals.yamlPath[0]: is empty",
			"f:13:7: error [required] spec.redactors[2].removals: is missing",
			"f:13:29: error [wrong-type] spec.redactors[2].fileSelector.files[0]: has a [ without its ]"}},
		"a template": {head + "SupportBundle\nspec: {collectors: [{logs: {namespace: 'repl{{ Namespace }}', selector: []}}]}\n", []string{"f:3:41: error [template] has a template of KOTS"}},
		"a number":   {head + "Redactor\nspec: {redactors: [{removals: {values: [12]}}]}\n", []string{"f:3:41: error [wrong-type] spec.redactors[0].removals.values[0]: must be text"}},
		"a Secret":   {"apiVersion: v1\nkind: Secret\ndata: {" + BundleKey + ": '%%%'}\n", []string{"f:3:29: error [wrong-type] data.support-bundle-spec: is not base64"}},
		"a ConfigMap": {"apiVersion: v1\nkind: ConfigMap\ndata:\n  " + RedactorKey + ": |\n    " + strings.ReplaceAll(head+"Redactor\nspec: {redactors: {}}\n", "\n", "\n    ") + "\n",
			[]string{"f:7:1: error [wrong-type] data.redactor-spec: spec.redactors: must be a list"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, findings := Parse("f", []byte(c.text))
			var got []string
			for _, f := range findings {
				got = append(got, f.String())
			}
			ok := len(got) == len(c.want)
			for i := range min(len(got), len(c.want)) {
				ok = ok && strings.HasPrefix(got[i], c.want[i])
			}
			if !ok {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestKinds_HaveAReasonOrAreCollected(t *testing.T) {
	for _, kind := range ClusterKinds() {
		if s := ClusterSupport(kind); s.Collected == (s.Reason != "") {
			t.Errorf("%s: %+v", kind, s)
		}
	}
	for _, kind := range HostKinds() {
		if s := HostSupport(kind); s.Collected == (s.Reason != "") {
			t.Errorf("%s: %+v", kind, s)
		}
	}
}

// TestGuide_ListsTheCollectors keeps the table of the guide.
func TestGuide_ListsTheCollectors(t *testing.T) {
	var b strings.Builder
	write := func(title string, kinds []string, support func(string) Support) {
		byWhat := map[string][]string{}
		for _, kind := range kinds {
			s := support(kind)
			what := "not carried out: " + s.Reason
			switch {
			case s.Covered:
				what = "every bundle has its result"
			case s.Collected:
				what = "collected"
			}
			byWhat[what] = append(byWhat[what], "`"+kind+"`")
		}
		for _, what := range slices.Sorted(maps.Keys(byWhat)) {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", title, what, strings.Join(byWhat[what], " "))
		}
	}
	b.WriteString("| collectors | | |\n|---|---|---|\n")
	write("in the cluster", ClusterKinds(), ClusterSupport)
	write("of the host", HostKinds(), HostSupport)
	const page, begin, end = "../../docs/guide/support-bundle.md", "<!-- collectors -->\n", "<!-- /collectors -->"
	text, err := os.ReadFile(page)
	testkit.Must(t, err)
	before, rest, ok1 := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("the guide has no place for the collectors")
	}
	testkit.Golden(t, page, []byte(before+begin+b.String()+end+after))
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(bundleSpec))
	f.Add([]byte(redactorSpec))
	f.Add([]byte("apiVersion: v1\nkind: Secret\nstringData:\n  support-bundle-spec: |\n    kind: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, findings := Parse("f", data)
		if s.isEmpty() && len(findings) == 0 && len(s.URIs) > 0 {
			t.Errorf("%+v", s)
		}
	})
}
