package planfile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

// planJSON returns a plan as `install --plan -o json` prints it.
func planJSON(t testing.TB, facts map[string]string, args journal.Args, steps []step.Planned) string {
	t.Helper()
	b, err := newInputs(facts, args, "/data", steps)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{"v": 1, "result": map[string]any{"plan": steps, "inputs": b}})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw) + "\n"
}

func TestPlan_RefusesAChangedPlanOrHost(t *testing.T) {
	here := map[string]string{"hostname": "n1", "kernel": "6.1"}
	args := journal.Args{Bundle: "sha256:1"}
	steps := []step.Planned{{Step: "kernel", State: "needed", Reason: "module overlay", Affects: []string{"/etc/sysctl.d/90-plinth.conf"}}}
	file := filepath.Join(t.TempDir(), "plan.json")
	good := planJSON(t, here, args, steps)
	for name, c := range map[string]struct {
		content string
		facts   map[string]string
		args    journal.Args
		steps   []step.Planned
		want    string // in the refusal; "" for none
	}{
		"unchanged":        {good, here, args, steps, ""},
		"another kernel":   {good, map[string]string{"hostname": "n1", "kernel": "6.2"}, args, steps, "kernel was 6.1 and is now 6.2"},
		"another bundle":   {good, here, journal.Args{Bundle: "sha256:2"}, steps, "the bundle was sha256:1 and is now sha256:2"},
		"an added license": {good, here, journal.Args{Bundle: "sha256:1", License: "sha256:3"}, steps, "the license was none and is now sha256:3"},
		"another address":  {good, here, journal.Args{Bundle: "sha256:1", APIAddress: "10.0.0.100"}, steps, "the API address was none and is now 10.0.0.100"},
		"other addresses":  {good, here, journal.Args{Bundle: "sha256:1", LoadBalancer: []string{"10.0.0.0/28", "10.0.1.0/28"}}, steps, "the load balancer's address list was none and is now 10.0.0.0/28, 10.0.1.0/28"},
		"something done":   {good, here, args, []step.Planned{{Step: "kernel", State: "done"}}, "step kernel was needed module overlay and is now done"},
		"edited":           {strings.Replace(good, "90-plinth", "91-plinth", 1), here, args, steps, "its digest does not match"},
		"not a plan":       {"{}", here, args, steps, "it is not a plan"},
		"after its events": {"{\"v\":1}\n" + good, here, args, steps, ""},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Must(t, os.WriteFile(file, []byte(c.content), 0o600))
			p, err := Open(file, "install")
			if err == nil {
				err = p.Verify(c.facts, c.args, "/data", c.steps)
			}
			if (err != nil) != (c.want != "") || err != nil && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.want)) {
				t.Error(err)
			}
		})
	}
}

func FuzzReadPlan(f *testing.F) {
	good := planJSON(f, map[string]string{"hostname": "n1"}, journal.Args{Bundle: "sha256:1"}, nil)
	for _, seed := range []string{good, good[:20], "{}", "", "null", `{"v":1,"result":{"inputs":{}}}`} {
		f.Add(seed)
	}
	file := filepath.Join(f.TempDir(), "plan.json")
	f.Fuzz(func(t *testing.T, content string) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := read(file, "install"); (b == nil) == (err == nil) || err != nil && problem.ExitCode(err) != problem.ExitUsage {
			t.Errorf("%v, %v", b, err)
		}
	})
}
