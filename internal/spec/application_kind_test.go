package spec_test

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

// A file beside an Installer that is none itself is taken for the Application, and its own fault is named.
func TestLint_NamesTheFaultOfABrokenApplication(t *testing.T) {
	const app = "apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: a}\n"
	for name, tc := range map[string]struct{ data, want string }{
		"syntax error":       {"a: [1\nb: 2\n", "[yaml-syntax]"},
		"tab in Application": {app + "spec:\n\ttitle: x\n", "[yaml-syntax]"},
		"empty":              {"", "does not contain a kots.io/v1beta1 Application (the file is empty)"},
		"too large":          {app + strings.Repeat("#", 1<<20), "[file-too-large] has more than the 1048576 bytes"},
		"not text":           {"\x00", "[not-text]"},
		"another kind":       {"apiVersion: v1\nkind: ConfigMap\n", `does not contain a kots.io/v1beta1 Application (found "v1 ConfigMap"`},
		"a second Installer": {minimal, "is the second Installer of this run"},
	} {
		t.Run(name, func(t *testing.T) {
			installer, other := spec.File{Name: "i.yaml", Data: []byte(minimal)}, spec.File{Name: "app.yaml", Data: []byte(tc.data)}
			for _, files := range [][]spec.File{{installer, other}, {other, installer}} {
				rep := spec.Lint(files)
				if len(rep.Findings) == 0 || !strings.Contains(rep.Findings[0].String(), tc.want) || !spec.HasErrors(rep.Findings) || len(rep.Findings) > 1 {
					t.Errorf("%v, want %q", rep.Findings, tc.want)
				}
			}
		})
	}
}
