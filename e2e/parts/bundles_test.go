package parts

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/plinthdev/plinth/e2e/toyapp"
)

// TestBundles writes what the other tests want into PLINTH_BUNDLES, from the
// OCI layout PLINTH_LAYOUT. Run it where the payload is.
func TestBundles(t *testing.T) {
	dir, layout := os.Getenv("PLINTH_BUNDLES"), os.Getenv("PLINTH_LAYOUT")
	if dir == "" || layout == "" {
		t.Skip("PLINTH_BUNDLES or PLINTH_LAYOUT is not set")
	}
	const ref = "docker.io/library/busybox:1.35.0"
	img, err := toyapp.LoadImage(layout, ref)
	check(t, err)
	license, err := toyapp.License()
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "license.yaml"), license, 0o600))
	for name, r := range map[string]toyapp.Release{
		"first":        {VersionLabel: "1.0.0", Cursor: 1, TargetKOTS: version},
		"later-target": {VersionLabel: "1.1.0", Cursor: 2, TargetKOTS: "1.140.0"},
		"lower-target": {VersionLabel: "1.2.0", Cursor: 3, TargetKOTS: "1.75.0"},
		"min-too-high": {VersionLabel: "1.3.0", Cursor: 4, MinKOTS: "1.200.0"},
	} {
		r.ImageRef, r.Image = ref, img
		check(t, r.WriteFile(filepath.Join(dir, name+".airgap")))
	}
}
