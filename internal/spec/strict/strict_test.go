package strict_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec/strict"
)

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

func decode(text string) (sample, *strict.Reader) {
	var s sample
	r := strict.New("f.yaml", strict.Rules())
	if data, ok := r.Clean([]byte(text)); ok {
		for _, root := range r.Documents(data) {
			r.Inspect(root, true)
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

func lines(r *strict.Reader) string {
	var b strings.Builder
	for _, f := range r.Findings() {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

func TestDecodeFillsFieldsAndDefaults(t *testing.T) {
	s, r := decode("name: a\nalways: {version: '1'}\nmaybe: {version: '2'}\nfree: {a: [1, {b: null}]}\nentries: [{c: {}}]\nwords: [x, y]\n")
	if len(r.Findings()) != 0 {
		t.Fatal(lines(r))
	}
	got := fmt.Sprintf("%s %d %s %s %s %v %v %v", s.Name, s.Size, s.Kind, s.Always.Version, s.Maybe.Version, s.Free, s.Entries, s.Words)
	if want := "a 7 plain 1 2 map[a:[1 map[b:<nil>]]] [map[c:map[]]] [x y]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if at := r.At("nowhere", "maybe.version"); at == nil || at.Line != 3 || at.Column != 18 {
		t.Errorf("maybe.version at %+v", at)
	}
}

func TestEveryFaultIsReportedAtItsPlace(t *testing.T) {
	_, r := decode("title: x\nsize: '7'\nmaybe: {versoin: '1'}\nalways: {version: four}\nwords: [fine, no]\nfree: []\nqqqqqqqqqq: 1\n")
	want := `f.yaml:1:1: error [required] name: is missing
f.yaml:1:1: error [unknown-key] title: unknown key (the key here is "name")
f.yaml:2:7: error [wrong-type] size: must be a whole number, found text (write plain digits, without quotes)
f.yaml:3:1: error [required] maybe.version: is missing
f.yaml:3:9: error [unknown-key] maybe.versoin: unknown key (did you mean "version"?)
f.yaml:4:19: error [short] always.version: is long
f.yaml:5:9: error [short] words[0]: is long
f.yaml:6:7: error [wrong-type] free: must be a mapping, found a list
f.yaml:7:1: error [unknown-key] qqqqqqqqqq: unknown key (known here: name, size, kind, always, maybe, free, entries, words)
`
	if got := lines(r); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if !r.Bad("size") || r.Bad("kind") {
		t.Error("Bad should know size and not kind")
	}
}

func TestAnchorsNeverReachTheLibrarysDecoder(t *testing.T) {
	s, r := decode("name: a\nalways: {version: '1'}\nfree: {a: &a {b: 1}, c: *a}\nentries: [{d: 1}]\n")
	if s.Free != nil || s.Entries != nil || !strings.Contains(lines(r), "f.yaml:3:11: error [no-anchors] free.a: ") {
		t.Errorf("%+v\n%s", s, lines(r))
	}
}

func TestNestingIsBoundedInKeysAndValues(t *testing.T) {
	for _, text := range []string{
		"free: " + strings.Repeat("{a: ", 100) + strings.Repeat("}", 100),
		"free: " + strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"free: {" + strings.Repeat("? [", 100) + strings.Repeat("]", 100) + "}",
	} {
		if _, r := decode(text); strings.Count(lines(r), "[too-deep]") != 1 {
			t.Errorf("%.20s: %s", text, lines(r))
		}
	}
}

func TestSplitKeepsEveryByteAndItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "0",
		"a: 1\n":                           "0",
		"---\na: 1\n":                      "0",
		"a: 1\n---\nb: 2\n":                "0 1",
		"a: 1\r\n--- # x\r\nb: 2\r\n---":   "0 1 3",
		"a: |\n  ---\n  x\n----\n---b\n":   "0",
		"\n\n---\n---\tx\n\n--- {a: 1}\nz": "0 2 3 5",
	} {
		var starts []string
		var all []byte
		for _, p := range strict.Split([]byte(text)) {
			starts, all = append(starts, fmt.Sprint(p.Line)), append(all, p.Text...)
			if p.Line != bytes.Count([]byte(text)[:len(all)-len(p.Text)], []byte("\n")) {
				t.Errorf("%q: part at line %d", text, p.Line)
			}
		}
		if got := strings.Join(starts, " "); got != want || string(all) != text {
			t.Errorf("%q: parts at %s, want %s; joined %q", text, got, want, all)
		}
	}
}

func TestShowHidesWhatMayBeSecretAndCutsWhatIsLong(t *testing.T) {
	for in, want := range map[string]string{
		"a":                       `"a"`,
		"\x1b[31m":                `"\x1b[31m"`,
		"http://u:p@x":            "(not shown, it may hold a password)",
		strings.Repeat("ä", 1000): `"` + strings.Repeat("ä", 60) + `…"`,
	} {
		if got := strict.Show(in); got != want {
			t.Errorf("Show(%q) = %s", in, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("name: a\nalways: {version: '1'}\nfree: {a: [1, {b: null}]}\nentries: [{c: {}}]\n")
	f.Add("? [a]\n: &b c\n*b : d\n<<: {}\n")
	f.Add("- - - [")
	f.Fuzz(func(t *testing.T, text string) {
		_, r := decode(text)
		breaks := 2
		for _, mark := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} { // what YAML calls a line break
			breaks += strings.Count(text, mark)
		}
		for _, found := range r.Findings() {
			if found.Line < 1 || found.Line > breaks || found.Column < 1 {
				t.Errorf("a place outside the text: %+v", found)
			}
		}
		var all []byte
		for _, p := range strict.Split([]byte(text)) {
			all = append(all, p.Text...)
		}
		if string(all) != text {
			t.Errorf("Split loses bytes of %q", text)
		}
	})
}
