package spec_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/spec"
)

// addSeeds adds the examples and unusual files as seeds.
func addSeeds(f *testing.F) {
	for _, files := range examples(f) {
		for _, file := range files {
			f.Add(file.Data)
		}
	}
	f.Add(readFile(f, "../../installer.yaml").Data)
	for _, data := range unusualFiles() {
		f.Add([]byte(data[:min(len(data), 4096)]))
	}
}

func FuzzParseInstaller(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		in, findings := spec.ParseInstaller("fuzz.yaml", data)
		checkFindings(t, in == nil, findings)
		if in == nil {
			return
		}
		canonical, err := in.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, findings := spec.ParseInstaller("again.json", canonical)
		if again == nil {
			t.Fatalf("the canonical form has findings: %v\n%s", findings, canonical)
		}
		if once, _ := again.Marshal(); string(once) != string(canonical) {
			t.Fatalf("the canonical form is not stable:\n%s\n%s", canonical, once)
		}
	})
}

func FuzzParseApplication(f *testing.F) {
	addSeeds(f)
	installer := readFile(f, "testdata/gate-pass.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		apps, findings := spec.ParseApplications("fuzz.yaml", data)
		checkFindings(t, len(apps) == 0, findings)
		rep := spec.Lint([]spec.File{installer, {Name: "fuzz.yaml", Data: data}})
		if rep.Gate != nil && rep.Gate.Outcome == compat.Undecidable {
			t.Errorf("undecidable without a finding: %+v", rep.Gate)
		}
	})
}

// checkFindings checks that every finding is complete and printable, and that
// errors are reported if and only if the manifest was rejected.
func checkFindings(t *testing.T, rejected bool, findings []spec.Finding) {
	t.Helper()
	if rejected != spec.HasErrors(findings) {
		t.Errorf("rejected %v with findings %v", rejected, findings)
	}
	if len(findings) > 201 {
		t.Errorf("%d findings", len(findings))
	}
	for _, f := range findings {
		if f.Line < 1 || f.Column < 1 || f.Rule == "" || f.Message == "" || f.Severity == "" {
			t.Errorf("incomplete finding %+v", f)
		}
		if line := f.String(); len(line) > 8000 || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			t.Errorf("finding of %d bytes: %.200q", len(line), line)
		}
	}
}

// The files are large enough to show work that grows with the square of their size. A file that takes too
// long makes the test time out.
func TestParse_RejectsHostileFilesInBoundedTime(t *testing.T) {
	const size = 1 << 16
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	var keys strings.Builder
	for i := 0; keys.Len() < size-20; i++ {
		fmt.Fprintf(&keys, "%d: 1\n", i)
	}
	for name, data := range map[string]string{
		"brackets":       fill("["),
		"braces":         fill("{a: "),
		"dashes":         fill("- "),
		"questions":      fill("? "),
		"documents":      fill("---\n"),
		"full documents": fill("--- a\n"),
		"comments":       fill("#\n"),
		"indented":       fill(" #x\n"),
		"colons":         fill(":\n"),
		"anchors":        fill("- &a x\n"),
		"aliases":        "- &a x\n" + fill("- *a\n")[:size-16],
		"quotes":         fill("\"\\\n"),
		"one key":        fill("a") + ": 1",
		"same keys":      fill("a: 1\n"),
		"many keys":      keys.String(),
		"tags":           fill("!a "),
		"long version":   minimal[:len(minimal)-3] + ", registry: {version: \"" + fill("1.")[:size-400] + "\"}}\n",
		"long cidr":      minimal[:len(minimal)-2] + ", network: {podCIDR: \"" + fill("1")[:size-400] + "\"}}\n",
		"long lists":     minimal[:len(minimal)-2] + ", proxy: {noProxy: [" + fill("@,")[:size-400] + "x]}}\n",
		"application":    "apiVersion: kots.io/v1beta1\nkind: Application\nspec: {title: " + fill("x")[:size-400] + ", minKotsVersion: 1.0.0}\n",
	} {
		t.Run(name, func(t *testing.T) {
			in, findings := spec.ParseInstaller("hostile.yaml", []byte(data))
			checkFindings(t, in == nil, findings)
			if in != nil {
				t.Error("accepted as Installer")
			}
			apps, findings := spec.ParseApplications("hostile.yaml", []byte(data))
			checkFindings(t, len(apps) == 0, findings)
			spec.Lint([]spec.File{{Name: "hostile.yaml", Data: []byte(data)}})
		})
	}
}

func FuzzParseSchedule(f *testing.F) {
	for _, text := range []string{"hourly", "daily", "weekly", "02:30", "Sun 03:30", "24:00", "Sun  03:30", "Mon Tue 1:00", "2:30"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := spec.ParseSchedule(text)
		if err == nil && (s.Interval <= 0 || s.Delay <= 0 || s.Delay >= s.Interval || strings.Trim(s.Calendar, "abcdefghijklmnopqrstuvwxyzMTWFS0123456789:*- ") != "") {
			t.Errorf("%q is %+v", text, s)
		}
	})
}
