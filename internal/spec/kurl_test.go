package spec_test

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

func TestLint_SaysOnlyThatAnInstallerIsOneOfKURL(t *testing.T) {
	const kurl = "apiVersion: cluster.kurl.sh/v1beta1\nkind: Installer\nmetadata: {name: a}\nspec: {kubernetes: {version: 1.27.x}}\n"
	for name, c := range map[string]struct {
		text string
		line string
	}{
		"alone":                  {kurl, "k.yaml:1:1"},
		"of the first releases":  {strings.Replace(kurl, "cluster.kurl.sh", "kurl.sh", 1), "k.yaml:1:1"},
		"after another document": {"apiVersion: v1\nkind: ConfigMap\n---\n" + kurl, "k.yaml:4:1"},
	} {
		t.Run(name, func(t *testing.T) {
			want := c.line + ": error [kurl-installer] apiVersion: this is an Installer of kURL, not of Plinth (convert it with: plinth convert kurl k.yaml)"
			report := spec.Lint([]spec.File{{Name: "k.yaml", Data: []byte(c.text)}})
			if len(report.Findings) != 1 || report.Findings[0].String() != want || report.Installer != nil {
				t.Errorf("%v, want %s", report.Findings, want)
			}
			if in, findings := spec.ParseInstaller("k.yaml", []byte(c.text)); in != nil || len(findings) != 1 {
				t.Errorf("parsed as %v, %v", in, findings)
			}
		})
	}
	report := spec.Lint([]spec.File{{Name: "k.yaml", Data: []byte(kurl)}, {Name: "p.yaml", Data: []byte(minimal)}})
	if len(report.Findings) != 1 || report.Installer == nil {
		t.Errorf("beside an Installer of Plinth: %v", report.Findings)
	}
}
