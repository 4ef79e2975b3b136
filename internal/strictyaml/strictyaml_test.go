package strictyaml_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

// inner and sample are schemas for the tests.
type inner struct {
	Version string `json:"version" required:"true" rule:"short"`
}

type sample struct {
	Name    string           `json:"name" required:"true" also:"title"`
	Size    int              `json:"size" default:"7"`
	Kind    string           `json:"kind" default:"plain"`
	Always  inner            `json:"always" required:"true"`
	Maybe   *inner           `json:"maybe"`
	Free    map[string]any   `json:"free"`
	Entries []map[string]any `json:"entries"`
	Words   []string         `json:"words" rule:"short"`
}

// decodeSample decodes text with the rule that words have at most three letters.
func decodeSample(text string) (sample, *strictyaml.Reader) {
	var s sample
	r := strictyaml.NewReader("f.yaml", strictyaml.Rules())
	if data, ok := r.CheckText([]byte(text)); ok {
		for _, root := range r.ParseDocuments(data) {
			r.CheckStructure(root, true)
			r.Decode(root, &s, func(rule, value string) (string, string) {
				if rule == "short" && len(value) > 3 {
					return "is long", ""
				}
				return "", ""
			})
		}
	}
	return s, r
}

// findingLines returns the findings of r, one per line.
func findingLines(r *strictyaml.Reader) string {
	var b strings.Builder
	for _, f := range r.Findings() {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

func TestFinding_StringIsOneLine(t *testing.T) {
	f := strictyaml.Finding{File: "a\n.yaml", Line: 1, Column: 2, Field: "spec", Rule: "kind", Severity: strictyaml.Error, Message: "x\r\ny", Hint: "z"}
	if got, want := f.String(), `a\n.yaml:1:2: error [kind] spec: x\r\ny (z)`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDecode_FillsFieldsAndDefaults(t *testing.T) {
	s, r := decodeSample("name: a\nalways: {version: '1'}\nmaybe: {version: '2'}\nfree: {a: [1, {b: null}]}\nentries: [{c: {}}]\nwords: [x, y]\n")
	if len(r.Findings()) != 0 {
		t.Fatal(findingLines(r))
	}
	got := fmt.Sprintf("%s %d %s %s %s %v %v %v", s.Name, s.Size, s.Kind, s.Always.Version, s.Maybe.Version, s.Free, s.Entries, s.Words)
	if want := "a 7 plain 1 2 map[a:[1 map[b:<nil>]]] [map[c:map[]]] [x y]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if at := r.NodeAt("nowhere", "maybe.version"); at == nil || at.Line != 3 || at.Column != 18 {
		t.Errorf("maybe.version at %+v", at)
	}
}

func TestDecode_ReportsEveryErrorAtItsPlace(t *testing.T) {
	_, r := decodeSample("title: x\nsize: '7'\nmaybe: {versoin: '1'}\nalways: {version: four}\nwords: [fine, no]\nfree: []\nqqqqqqqqqq: 1\n")
	want := `f.yaml:1:1: error [required] name: is missing
f.yaml:1:1: error [unknown-key] title: unknown key (the key is called "name")
f.yaml:2:7: error [wrong-type] size: must be a whole number, found text (write plain digits, without quotes)
f.yaml:3:1: error [required] maybe.version: is missing
f.yaml:3:9: error [unknown-key] maybe.versoin: unknown key (did you mean "version"?)
f.yaml:4:19: error [short] always.version: is long
f.yaml:5:9: error [short] words[0]: is long
f.yaml:6:7: error [wrong-type] free: must be a mapping, found a list
f.yaml:7:1: error [unknown-key] qqqqqqqqqq: unknown key (known keys: name, size, kind, always, maybe, free, entries, words)
`
	if got := findingLines(r); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if !r.HasError("size") || r.HasError("kind") {
		t.Error("HasError should be true for size and false for kind")
	}
}

func TestDecode_SkipsValuesWithAnchors(t *testing.T) {
	s, r := decodeSample("name: a\nalways: {version: '1'}\nfree: {a: &a {b: 1}, c: *a}\nentries: [{d: 1}]\n")
	if s.Free != nil || s.Entries != nil || !strings.Contains(findingLines(r), "f.yaml:3:11: error [no-anchors] free.a: ") {
		t.Errorf("%+v\n%s", s, findingLines(r))
	}
}

func TestCheckStructure_LimitsNesting(t *testing.T) {
	for name, text := range map[string]string{
		"mappings": "free: " + strings.Repeat("{a: ", 100) + strings.Repeat("}", 100),
		"lists":    "free: " + strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"keys":     "free: {" + strings.Repeat("? [", 100) + strings.Repeat("]", 100) + "}",
	} {
		t.Run(name, func(t *testing.T) {
			if _, r := decodeSample(text); strings.Count(findingLines(r), "[too-deep]") != 1 {
				t.Errorf("%.20s: %s", text, findingLines(r))
			}
		})
	}
}

func TestQuoteValue_HidesSecretsAndTruncates(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"short":              {"a", `"a"`},
		"control characters": {"\x1b[31m", `"\x1b[31m"`},
		"password":           {"http://u:p@x", "(hidden, it may contain a password)"},
		"query":              {"s3://b/x?secret=p", "(hidden, it may contain a password)"},
		"question":           {"what?", `"what?"`},
		"long":               {strings.Repeat("ä", 1000), `"` + strings.Repeat("ä", 60) + `…"`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strictyaml.QuoteValue(tc.in); got != tc.want {
				t.Errorf("QuoteValue(%q) = %s", tc.in, got)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("name: a\nalways: {version: '1'}\nfree: {a: [1, {b: null}]}\nentries: [{c: {}}]\n")
	f.Add("? [a]\n: &b c\n*b : d\n<<: {}\n")
	f.Add("- - - [")
	f.Fuzz(func(t *testing.T, text string) {
		_, r := decodeSample(text)
		breaks := 2
		for _, mark := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} { // the line breaks of YAML
			breaks += strings.Count(text, mark)
		}
		for _, found := range r.Findings() {
			if found.Line < 1 || found.Line > breaks || found.Column < 1 {
				t.Errorf("place outside the text: %+v", found)
			}
		}
	})
}
