package printer

import (
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/kurl"
)

func TestWriteConversion_IsYAMLWithALineForEachKey(t *testing.T) {
	long := strings.Repeat("words that are many ", 20)
	c := kurl.Conversion{YAML: []byte("kind: Installer\n"), Keys: []kurl.Key{
		{Path: "spec.a", Verdict: kurl.Dropped, Note: long}, {Path: "spec.b", Verdict: kurl.ByHand, Note: "line\nbreak"}, {Path: strings.Repeat("x", 200), Verdict: kurl.Unknown, Note: "n"},
	}}
	var b strings.Builder
	WriteConversion(&b, c, "my\nfile.yaml")
	var got map[string]string
	if err := yaml.Unmarshal([]byte(b.String()), &got); err != nil || len(got) != 1 || got["kind"] != "Installer" {
		t.Errorf("%v, %v", got, err)
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > conversionColumns+2 && !strings.Contains(line, "xxx") {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	rest := b.String()
	for _, want := range []string{"# To do by hand", "spec.b", "# Unknown to kURL", "xxx", "# Dropped", "spec.a", "# Next: plinth lint", "kind: Installer"} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("%q is missing or not in its place:\n%s", want, b.String())
		}
		rest = after
	}
}
