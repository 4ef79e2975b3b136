package testapp

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/plinthdev/plinth/internal/kots"
)

func TestWriteFile_WritesBundleThatKOTSReads(t *testing.T) {
	img, err := random.Image(1024, 2)
	if err != nil {
		t.Fatal(err)
	}
	r := Release{VersionLabel: "1.2.3", Cursor: 7, TargetKOTS: "1.131.2", ImageRef: "docker.io/library/busybox:1.35.0", Image: img}
	path := filepath.Join(t.TempDir(), "toy.airgap")
	if err := r.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	b, err := kots.ReadAppBundle(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.Slug != Slug || b.VersionLabel != "1.2.3" || b.UpdateCursor != "7" || len(b.Images) != 1 {
		t.Errorf("bundle is %+v", b)
	}
	if string(b.Application) != string(r.Application()) || !strings.Contains(string(b.Application), `targetKotsVersion: "1.131.2"`) {
		t.Errorf("application is %s", b.Application)
	}
}
