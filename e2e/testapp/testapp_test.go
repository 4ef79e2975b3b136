package testapp

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
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

func TestManifests_HaveAVolumeForSnapshots(t *testing.T) {
	for name, want := range map[string]bool{"without snapshots": false, "with snapshots": true} {
		t.Run(name, func(t *testing.T) {
			all := Release{VersionLabel: "1.0.0", ImageRef: "docker.io/library/busybox:1.35.0", Volume: want}.manifests()
			if _, ok := all["backup.yaml"]; ok != want {
				t.Errorf("a Backup: %v", ok)
			}
			objects, err := kube.Decode(all["hello.yaml"])
			i := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Deployment" })
			if err != nil || i < 0 {
				t.Fatal(err, len(objects))
			}
			volumes, _, err := unstructured.NestedSlice(objects[i].Object, "spec", "template", "spec", "volumes")
			marked, _, _ := unstructured.NestedString(objects[i].Object, "spec", "template", "metadata", "annotations", "backup.velero.io/backup-volumes")
			if err != nil || len(volumes) == 1 != want || marked == "data" != want {
				t.Errorf("volumes %v, marked %q, %v", volumes, marked, err)
			}
		})
	}
}
