package vulns

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/Masterminds/semver/v3"

	"github.com/plinthdev/plinth/internal/testkit"
)

func TestAffects_FollowsRanges(t *testing.T) {
	events := []osvEvent{{Introduced: "0"}, {Fixed: "1.2.3"}, {Introduced: "2.0.0-0"}, {Fixed: "2.1.0"}}
	for version, want := range map[string]string{"v1.0.0": "v1.2.3", "v1.2.3-0.20260101000000-abcdef123456": "v1.2.3", "v1.2.3": "", "v1.9.0": "", "v2.0.0": "v2.1.0", "v2.1.0": "", "v3.0.0": ""} {
		fixed, ok := affects(events, semver.MustParse(version))
		if fixed != want || ok != (want != "") {
			t.Errorf("%s: fixed in %q, %v; want %q", version, fixed, ok, want)
		}
	}
	if fixed, ok := affects([]osvEvent{{Introduced: "0"}}, semver.MustParse("v9.0.0")); fixed != "" || !ok {
		t.Errorf("without a fix: %q, %v", fixed, ok)
	}
}

func TestLookup_FindsModuleOfComponent(t *testing.T) {
	dir := t.TempDir()
	testkit.WriteFile(t, dir, "GO-2026-0001.json", `{"id": "GO-2026-0001", "summary": "open API", "affected": [{"package": {"name": "example.com/router/v2"}, "ranges": [{"events": [{"introduced": "0"}, {"fixed": "2.9.0"}]}]}]}`)
	testkit.WriteFile(t, dir, "GO-2026-0002.json", `{"id": "GO-2026-0002", "withdrawn": "2026-01-01T00:00:00Z", "affected": [{"package": {"name": "example.com/router/v2"}, "ranges": [{"events": [{"introduced": "0"}]}]}]}`)
	db, err := LoadDatabase(dir)
	if err != nil {
		t.Fatal(err)
	}
	found, err := db.Lookup("router", "example.com/router/v2@v2.1.0")
	if err != nil || len(found) != 1 || found[0].ID != "GO-2026-0001" || found[0].Fixed != "v2.9.0" {
		t.Errorf("got %+v, %v", found, err)
	}
	if found, err := db.Lookup("router", "example.com/router/v2@v2.9.0"); err != nil || len(found) != 0 {
		t.Errorf("fixed version: got %+v, %v", found, err)
	}
	if _, err := LoadDatabase(filepath.Join(dir, "none")); err == nil {
		t.Error("an empty database is accepted")
	}
}

func TestLinkedPackages_ReadsStrippedExecutableAndScript(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	packages, err := linkedPackages(self)
	if err != nil || !packages["github.com/plinthdev/plinth/distro/vulns"] || !packages["gopkg.in/yaml.v3"] || packages["golang.org/x/crypto/ssh"] {
		t.Errorf("%d packages, %v", len(packages), err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if packages, err := linkedPackages(script); err != nil || packages != nil {
		t.Errorf("script: %v, %v", packages, err)
	}
}

func TestParseFindings_LeavesOutUnlinkedPackages(t *testing.T) {
	stream := `{"osv": {"id": "GO-2026-0001", "summary": "loop"}}
{"finding": {"osv": "GO-2026-0001", "fixed_version": "v1.1.0", "trace": [{"module": "example.com/m", "version": "v1.0.0"}]}}
{"finding": {"osv": "GO-2026-0001", "fixed_version": "v1.1.0", "trace": [{"module": "example.com/m", "version": "v1.0.0", "package": "example.com/m/ssh", "function": "Dial"}]}}
{"finding": {"osv": "GO-2026-0001", "fixed_version": "v1.1.0", "trace": [{"module": "example.com/m", "version": "v1.0.0", "package": "example.com/m/html", "receiver": "*Node", "function": "Parse"}]}}`
	found, err := parseFindings([]byte(stream), "host", map[string]bool{"example.com/m/html": true})
	if err != nil || len(found) != 1 || found[0].Symbol != "example.com/m/html.Node.Parse" || found[0].Fixed != "v1.1.0" || found[0].Summary != "loop" {
		t.Errorf("got %+v, %v", found, err)
	}
}
