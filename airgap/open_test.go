package airgap_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestOpen_NamesABundleWithASimilarName(t *testing.T) {
	dir := t.TempDir()
	testkit.Must(t, os.WriteFile(filepath.Join(dir, "my-app.bundle"), nil, 0o600), os.WriteFile(filepath.Join(dir, "my-apps.txt"), nil, 0o600),
		os.Mkdir(filepath.Join(dir, "my-ap.bundle"), 0o755))
	for name, want := range map[string]string{
		"my-ap":             "did you mean " + dir + "/my-app.bundle?",
		"myapp.bundle":      "did you mean " + dir + "/my-app.bundle?",
		"my-app.bundel":     "did you mean " + dir + "/my-app.bundle?",
		"my-app":            "did you mean " + dir + "/my-app.bundle?",
		"zzzzzzzzzz.tar":    "check the path; the bundle is the file that the vendor published",
		"none/my-ap.bundle": "check the path; the bundle is the file that the vendor published",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := airgap.Open(t.Context(), filepath.Join(dir, name))
			if err == nil || !strings.HasSuffix(err.Error(), "no such file or directory") || problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) != want {
				t.Errorf("%v: %s", err, problem.Hint(err))
			}
		})
	}
}
