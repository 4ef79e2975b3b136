package install

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// printed is a plan as `install --plan -o json` prints it.
func printed(t testing.TB, s site, asked map[string]string, steps []step.Planned) string {
	t.Helper()
	b, err := bind(s, asked, dataDir, steps)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{"v": 1, "result": Result{Plan: steps, Bound: b}})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw) + "\n"
}

func TestAPlanIsDoneOnlyAsItWasMade(t *testing.T) {
	here := site{facts: map[string]string{"hostname": "n1", "kernel": "6.1"}}
	asked := map[string]string{argBundle: "sha256:1"}
	steps := []step.Planned{{Step: "kernel", State: "needed", Why: "module overlay", Touches: []string{"/etc/sysctl.d/90-plinth.conf"}}}
	file := filepath.Join(t.TempDir(), "plan.json")
	good := printed(t, here, asked, steps)
	for name, c := range map[string]struct {
		content string
		site    site
		asked   map[string]string
		steps   []step.Planned
		want    string // in the refusal; "" for none
	}{
		"as it was made":   {good, here, asked, steps, ""},
		"another kernel":   {good, site{facts: map[string]string{"hostname": "n1", "kernel": "6.2"}}, asked, steps, "kernel was 6.1 and is now 6.2"},
		"another bundle":   {good, here, map[string]string{argBundle: "sha256:2"}, steps, "the bundle was sha256:1 and is now sha256:2"},
		"a license more":   {good, here, map[string]string{argBundle: "sha256:1", argLicense: "sha256:3"}, steps, "the license was none and is now sha256:3"},
		"another address":  {good, here, map[string]string{argBundle: "sha256:1", argAPI: "10.0.0.100"}, steps, "the API's address was none and is now 10.0.0.100"},
		"something done":   {good, here, asked, []step.Planned{{Step: "kernel", State: "done"}}, "step kernel was needed module overlay and is now done"},
		"edited":           {strings.Replace(good, "90-plinth", "91-plinth", 1), here, asked, steps, "its digest does not fit"},
		"not a plan":       {"{}", here, asked, steps, "it is no plan"},
		"after its events": {"{\"v\":1}\n" + good, here, asked, steps, ""},
	} {
		must(t, os.WriteFile(file, []byte(c.content), 0o600))
		a, _ := fake(t)
		asked := map[string]string{}
		for k, v := range c.asked {
			asked[k] = v
		}
		err := a.held(c.site, Request{PlanFile: file, asked: asked}, c.steps)
		if (err != nil) != (c.want != "") || err != nil && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadPlan(f *testing.F) {
	good := printed(f, site{facts: map[string]string{"hostname": "n1"}}, map[string]string{argBundle: "sha256:1"}, nil)
	for _, seed := range []string{good, good[:20], "{}", "", "null", `{"v":1,"result":{"bound":{}}}`} {
		f.Add(seed)
	}
	file := filepath.Join(f.TempDir(), "plan.json")
	f.Fuzz(func(t *testing.T, content string) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := readPlan(file); (b == nil) == (err == nil) || err != nil && problem.ExitCode(err) != problem.ExitUsage {
			t.Errorf("%v, %v", b, err)
		}
	})
}
