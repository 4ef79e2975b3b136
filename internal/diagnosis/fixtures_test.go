package diagnosis

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/testkit"
)

// TestDiagnose_FindsNothingOnRealHosts uses the facts of real hosts, with and without k0s.
func TestDiagnose_FindsNothingOnRealHosts(t *testing.T) {
	paths, err := filepath.Glob("../../hostpreflight/checks/testdata/*-*.json")
	testkit.Must(t, err)
	if len(paths) < 5 {
		t.Fatalf("%q", paths)
	}
	for _, p := range paths {
		t.Run(filepath.Base(p), func(t *testing.T) {
			raw, err := os.ReadFile(p)
			testkit.Must(t, err)
			var f facts.Facts
			testkit.Must(t, json.Unmarshal(raw, &f))
			s := Snapshot{Schema: Schema, Time: f.Clock.Now, Host: f}
			if strings.Contains(p, "k0s") {
				s.Install.Installed = true
				s.K0s = Unit{Name: "k0scontroller.service", Load: "loaded", Active: "active", Sub: "running", Enabled: "enabled", Since: f.Clock.Now.Add(-2 * settleTime)}
			}
			for _, found := range Diagnose(s) {
				if found.Rule != "clock-not-synchronized" || f.Clock.Synced { // some of the hosts had no time server
					t.Errorf("%+v", found)
				}
			}
		})
	}
}
