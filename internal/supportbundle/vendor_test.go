package supportbundle

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/testkit"
)

// compileRemoval returns the rule of a removal without an error.
func compileRemoval(t *testing.T, r Removal) VendorRule {
	t.Helper()
	if r.Name == "" {
		r.Name = "x"
	}
	rule, wrong := CompileRemoval(r)
	if len(wrong) > 0 {
		t.Fatalf("%v", wrong)
	}
	return rule
}

// redactWith returns the content of a file without what r removes.
func redactWith(t *testing.T, r Removal, name, content string) string {
	t.Helper()
	redactor, dropped := NewRedactor().WithVendorRules([]VendorRule{compileRemoval(t, r)})
	if dropped != 0 {
		t.Fatal("the rule is dropped")
	}
	return string(redactor.Redact(name, []byte(content)))
}

const vendorMark = "***REDACTED:vendor-x***"

func regexOf(e string) Removal { return Removal{Regexes: []LineRegex{{Redactor: e}}} }

func TestVendorRules_RemoveFromLines(t *testing.T) {
	for name, c := range map[string]struct {
		removal    Removal
		text, want string
	}{
		"a value":                   {Removal{Values: []string{"acme"}}, "at acme and acme\nat b", "at " + vendorMark + " and " + vendorMark + "\nat b"},
		"a short value":             {Removal{Values: []string{"a b"}}, "xa bx", "x" + vendorMark + "x"},
		"a mask":                    {regexOf(`(customer: )(?P<mask>\w+)(;)`), "customer: acme; b", "customer: " + vendorMark + "; b"},
		"two masks":                 {regexOf(`(?P<mask>\w+)(@)(?P<mask>\w+)`), "to ann@acme now", "to " + vendorMark + "@" + vendorMark + " now"},
		"a drop":                    {regexOf(`(a)(?P<drop>b+)(?P<mask>c)`), "abbbc", "a" + vendorMark},
		"a drop alone":              {regexOf(`(a)(?P<drop>b+)`), "abbbc", "a" + vendorMark + "c"},
		"what is in no group":       {regexOf(`id=(?P<mask>\d+)`), "id=17;", vendorMark + ";"},
		"no group":                  {regexOf(`2cQ[A-Za-z0-9]+`), "license 2cQCFfBx there", "license " + vendorMark + " there"},
		"a mask in a group":         {regexOf(`(id (?P<mask>\d+) end)`), "id 17 end", "id " + vendorMark + " end"},
		"another named group":       {regexOf(`(?P<host>\w+):(?P<mask>\d+)`), "db:5432", "db" + vendorMark},
		"no match":                  {regexOf(`(?P<mask>zzz)`), "abc\r\ndef", "abc\r\ndef"},
		"a selector":                {Removal{Regexes: []LineRegex{{Selector: `"name": "CUSTOMER"`, Redactor: `("value": ")(?P<mask>[^"]*)(")`}}}, "\"value\": \"a\"\n\"name\": \"CUSTOMER\"\n\"value\": \"b\"\n\"value\": \"c\"\n", "\"value\": \"a\"\n\"name\": \"CUSTOMER\"\n\"value\": \"" + vendorMark + "\"\n\"value\": \"c\"\n"},
		"two lines that are chosen": {Removal{Regexes: []LineRegex{{Selector: `^s`, Redactor: `(?P<mask>\d)`}}}, "s1\ns2\n3\n4", "s1\ns" + vendorMark + "\n" + vendorMark + "\n4"},
		"a part of a mark":          {Removal{Values: []string{"secret-value"}}, "password: hunter22", "password: " + vendorMark},
	} {
		t.Run(name, func(t *testing.T) {
			c.removal.Name = ""
			got := redactWith(t, c.removal, "a.txt", c.text)
			if c.want = strings.ReplaceAll(c.want, "\r\n", "\n"); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestVendorRules_RemoveAtPaths(t *testing.T) {
	const doc = `{"users":[{"name":"ann","pin":12},{"name":"bob","pin":34}],"db":{"a.b":1,"host":"h"}}`
	for name, c := range map[string]struct {
		path, want string
	}{
		"a key":             {"db.host", `{"db":{"a.b":1,"host":"***REDACTED:vendor-x***"},"users":[{"name":"ann","pin":12},{"name":"bob","pin":34}]}`},
		"all of a list":     {"users.*.pin", `{"db":{"a.b":1,"host":"h"},"users":[{"name":"ann","pin":"***REDACTED:vendor-x***"},{"name":"bob","pin":"***REDACTED:vendor-x***"}]}`},
		"an index":          {"users.1", `{"db":{"a.b":1,"host":"h"},"users":[{"name":"ann","pin":12},"***REDACTED:vendor-x***"]}`},
		"all of a mapping":  {"db.*", `{"db":{"a.b":"***REDACTED:vendor-x***","host":"***REDACTED:vendor-x***"},"users":[{"name":"ann","pin":12},{"name":"bob","pin":34}]}`},
		"a path of nothing": {"db.host.port.2", `{"db":{"a.b":1,"host":"h"},"users":[{"name":"ann","pin":12},{"name":"bob","pin":34}]}`},
	} {
		removal := Removal{YAMLPaths: []string{c.path}}
		t.Run(name+" in JSON", func(t *testing.T) {
			var out bytes.Buffer
			testkit.Must(t, json.Compact(&out, []byte(redactWith(t, removal, "a.json", doc))))
			if out.String() != c.want {
				t.Errorf("%s", out.String())
			}
		})
	}
	for name, c := range map[string]struct {
		removal          Removal
		file, text, want string
	}{
		"documents":         {Removal{YAMLPaths: []string{"a.b"}}, "k0s.yaml", "# first\na:\n  b: 1\n  c: 2\n---\na: {b: x}\n", "# first\na:\n  b: '" + vendorMark + "'\n  c: 2\n---\na: {b: '" + vendorMark + "'}\n"},
		"no such path":      {Removal{YAMLPaths: []string{"a.z"}}, "k0s.yaml", "a:   {b: 1}\n", "a:   {b: 1}\n"},
		"an alias":          {Removal{YAMLPaths: []string{"two.b"}}, "a.yml", "one: &x {b: 1}\ntwo: *x\n", "one: &x {b: 1}\ntwo: '" + vendorMark + "'\n"},
		"not YAML":          {Removal{YAMLPaths: []string{"a"}}, "a.yaml", "a: [\n", "a: [\n"},
		"a log":             {Removal{YAMLPaths: []string{"a"}}, "a.log", "a: 1\n", "a: 1\n"},
		"a log with a name": {Removal{YAMLPaths: []string{"a"}, Files: []string{"a.log"}}, "a.log", "a: 1\n", "a: '" + vendorMark + "'\n"},
	} {
		t.Run(name+" in YAML", func(t *testing.T) {
			if got := redactWith(t, c.removal, c.file, c.text); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestVendorRules_ApplyToSelectedFiles(t *testing.T) {
	for name, c := range map[string]struct {
		glob    string
		yes, no []string
	}{
		"a name":          {"a/b.json", []string{"a/b.json"}, []string{"a/b.jsonx", "x/a/b.json"}},
		"a star":          {"a/*.log", []string{"a/b.log", "a/.log"}, []string{"a/b/c.log", "a/b.txt"}},
		"two stars":       {"a/**", []string{"a/b", "a/b/c"}, []string{"b/a/c", "a"}},
		"a star at first": {"*/pods/**.log", []string{"x/pods/a/b.log"}, []string{"x/y/pods/a.log"}},
		"one character":   {"a?c", []string{"abc"}, []string{"a/c", "ac"}},
		"a class":         {"a[0-3x]", []string{"a2", "ax"}, []string{"a4"}},
		"not a class":     {"a[!0-3]", []string{"a4"}, []string{"a2"}},
		"texts":           {"{a,b/*}.txt", []string{"a.txt", "b/c.txt"}, []string{"c.txt"}},
		"escaped":         {`a\*.b`, []string{"a*.b"}, []string{"ax.b", "a*xb"}},
	} {
		t.Run(name, func(t *testing.T) {
			removal := Removal{Files: []string{"other", c.glob}, Values: []string{"acme"}}
			for _, file := range c.yes {
				if got := redactWith(t, removal, file, "acme"); got != vendorMark {
					t.Errorf("%s: %s", file, got)
				}
			}
			for _, file := range c.no {
				if got := redactWith(t, removal, file, "acme"); got != "acme" {
					t.Errorf("%s: %s", file, got)
				}
			}
		})
	}
	t.Run("values in specs", func(t *testing.T) {
		removal := Removal{Files: []string{"a.txt"}, Values: []string{`ac"me`}, Regexes: []LineRegex{{Redactor: "name"}}}
		got := redactWith(t, removal, "cluster-resources/configmaps/default.json", `{"name": "values: ['ac\"me']"}`)
		if want := "{\n  \"name\": \"values: ['" + vendorMark + "']\"\n}\n"; got != want {
			t.Errorf("%q", got)
		}
	})
}

func TestCompileRemoval_NamesWhatItCannotUse(t *testing.T) {
	deep := strings.Repeat("(", 2000) + strings.Repeat(")", 2000)
	rule, wrong := CompileRemoval(Removal{Name: "My App: Users!", Files: []string{"a[", "{a", "b"}, Values: []string{"", "fine"}, YAMLPaths: []string{" "},
		Regexes: []LineRegex{{Redactor: "("}, {Selector: "*", Redactor: ""}, {Redactor: `[a-z]{1000}[a-z]{1000}[a-z]{1000}[a-z]{1000}[a-z]{1000}[a-z]{1000}[a-z]{1000}[a-z]{1000}[a-z]{1000}[a-z]{1000}`},
			{Redactor: `(?=x)`}, {Redactor: deep}, {Redactor: "ok"}}})
	var fields []string
	for _, w := range wrong {
		fields = append(fields, w.Field+" "+w.Err.Error()[:min(22, len(w.Err.Error()))])
	}
	want := []string{"fileSelector.files[0] has a [ without its ]", "fileSelector.files[1] has a { without its }", "removals.values[0] is empty",
		"removals.regex[0].redactor is not a regular expre", "removals.regex[1].selector is not a regular expre", "removals.regex[1].redactor is empty",
		"removals.regex[2].redactor is too complex: it has", "removals.regex[3].redactor is not a regular expre", "removals.regex[4].redactor is not a regular expre", "removals.yamlPath[0] is empty"}
	if !slices.Equal(fields, want) {
		t.Errorf("%q", fields)
	}
	redactor, _ := NewRedactor().WithVendorRules([]VendorRule{rule})
	if got := string(redactor.Redact("b", []byte("fine, ok"))); got != "***REDACTED:vendor-my-app-users***, ***REDACTED:vendor-my-app-users***" {
		t.Errorf("%s", got)
	}
	t.Run("no usable selector", func(t *testing.T) {
		rule, _ := CompileRemoval(Removal{Files: []string{"["}, Values: []string{"fine"}})
		redactor, _ := NewRedactor().WithVendorRules([]VendorRule{rule})
		if got := string(redactor.Redact("b", []byte("fine"))); got != "fine" {
			t.Errorf("it changes all files: %s", got)
		}
	})
}

func TestVendorRules_AreBounded(t *testing.T) {
	slow := compileRemoval(t, regexOf(`(?:[a-z]{20}|x*y?){30}(?P<mask>\d{50})`))
	t.Run("time", func(t *testing.T) {
		redactor, _ := NewRedactor().WithVendorRules([]VendorRule{slow})
		redactor.vendor.limit = time.Millisecond
		got := string(redactor.Redact("a.log", []byte(strings.Repeat("abcdefghij klmnop\n", 50_000))))
		if got != "***REDACTED:"+ruleVendorTime+"***\n" {
			t.Errorf("%.100s", got)
		}
	})
	t.Run("time of paths", func(t *testing.T) {
		paths := compileRemoval(t, Removal{Files: []string{"a.*"}, YAMLPaths: slices.Repeat([]string{"*.*.x"}, 1000)})
		for name, want := range map[string]string{"a.json": "\"***REDACTED:" + ruleVendorTime + "***\"\n", "a.yaml": "***REDACTED:" + ruleVendorTime + "***\n"} {
			redactor, _ := NewRedactor().WithVendorRules([]VendorRule{paths})
			redactor.vendor.limit = time.Nanosecond
			if got := string(redactor.Redact(name, []byte(`{"a": {"b": {"x": "acme"}}}`))); got != want {
				t.Errorf("%s: %.100q", name, got)
			}
		}
	})
	t.Run("time of one long line", func(t *testing.T) {
		line := strings.Repeat("abcdefghij klmnop ", 2*bytesPerCheck/18)
		apply := func(count int, limit time.Duration) (ok bool, took time.Duration) {
			v := &vendorRules{limit: limit}
			rule := compileRemoval(t, Removal{Regexes: slices.Repeat([]LineRegex{{Redactor: `(?:[a-z]{20}|x*y?){5}(?P<mask>\d{50})`}}, count)})
			begun := time.Now()
			_, ok = v.applyRule(rule, line, begun)
			return ok, time.Since(begun)
		}
		_, one := apply(1, time.Hour)
		if ok, took := apply(100, one/2); ok || took > 50*one {
			t.Errorf("%v after %s, one expression takes %s", ok, took, one)
		}
	})
	t.Run("number", func(t *testing.T) {
		rules := slices.Repeat([]VendorRule{slow}, 2*maxVendorEffort/slow.effort)
		if _, dropped := NewRedactor().WithVendorRules(rules); dropped < len(rules)/3 || dropped == len(rules) {
			t.Errorf("%d of %d", dropped, len(rules))
		}
	})
}

func TestWriter_ListsWhatVendorRulesRemove(t *testing.T) {
	var out bytes.Buffer
	redactor, _ := NewRedactor("kn0wnSecretValue").WithVendorRules([]VendorRule{compileRemoval(t, Removal{Name: "Customer names", Values: []string{"acme"}})})
	b, err := NewWriter(&out, Options{Root: "r", Time: at, Limit: 1e6, Redactor: redactor})
	testkit.Must(t, err)
	b.Add("a.txt", []byte("one\nacme kn0wnSecretValue acme\n"))
	b.LeaveOut("b.txt", "no answer from acme")
	if !b.Has("/a.txt") || b.Has("b.txt") {
		t.Error("the names are wrong")
	}
	_, err = b.Close()
	testkit.Must(t, err)
	files := unpack(t, &out, "r")
	var manifest []Redaction
	testkit.Must(t, json.Unmarshal([]byte(files[manifestFile]), &manifest))
	if len(manifest) != 2 || manifest[1].Rule != "vendor-customer-names" || manifest[1].Count != 2 || !slices.Equal(manifest[1].Lines, []int{2}) {
		t.Errorf("%+v", manifest)
	}
	for name, content := range files {
		if strings.Contains(content, "acme") {
			t.Errorf("%s: %s", name, content)
		}
	}
}

func FuzzVendorRules(f *testing.F) {
	f.Add("a/*.log", `(a)(?P<mask>b)`, "x.*.1", "a/b.json", `{"x":[[1,"ab"]]}`)
	f.Add("[!a]", `(?P<drop>.)`, "a", "a.yaml", "a: &x [*x]\n---\n")
	f.Fuzz(func(t *testing.T, glob, expression, path, name, text string) {
		rule, _ := CompileRemoval(Removal{Name: "x", Files: []string{glob}, Values: []string{expression}, Regexes: []LineRegex{{Redactor: expression}}, YAMLPaths: []string{path}})
		r, _ := NewRedactor("kn0wnSecretValue").WithVendorRules([]VendorRule{rule})
		if clean := r.Redact(name, []byte(text+" kn0wnSecretValue")); r.Contains(clean) {
			t.Errorf("%q", clean)
		}
	})
}
