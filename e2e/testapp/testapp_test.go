package testapp

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

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

func TestAirgapYAML_NamesRequiredReleases(t *testing.T) {
	required := Release{VersionLabel: "2.0.0", Cursor: 2, Required: true}
	type meta struct{ VersionLabel, UpdateCursor string }
	for name, tc := range map[string]struct {
		release  Release
		slug     string
		required bool
		earlier  []meta
	}{
		"a required release":     {release: required, slug: Slug, required: true},
		"one after it":           {release: Release{Cursor: 3, Earlier: []Release{required}}, slug: Slug, earlier: []meta{{"2.0.0", "2"}}},
		"one of other customers": {release: Release{Cursor: 1, Customer: &RenewedCustomer}, slug: RenewedCustomer.Slug},
	} {
		t.Run(name, func(t *testing.T) {
			var doc struct {
				Spec struct {
					AppSlug, ChannelName string
					IsRequired           bool
					RequiredReleases     []meta
				}
			}
			if err := yaml.Unmarshal(tc.release.airgapYAML(), &doc); err != nil {
				t.Fatal(err)
			}
			s := doc.Spec
			if s.AppSlug != tc.slug || s.ChannelName != tc.release.customer().channelName || s.IsRequired != tc.required ||
				!slices.Equal(s.RequiredReleases, tc.earlier) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestManifests_HaveSpecsOfTroubleshoot(t *testing.T) {
	all := Release{StrictLabel: "a/b", SupportBundle: true}.manifests()
	for file, want := range map[string]string{"preflight.yaml": `matchLabel: {a/b: "true"}`, "support-bundle.yaml": "kind: SupportBundle"} {
		t.Run(file, func(t *testing.T) {
			if objects, err := kube.Decode(all[file]); err != nil || len(objects) != 1 || !strings.Contains(string(all[file]), want) {
				t.Errorf("%v %s", err, all[file])
			}
			if none := (Release{}).manifests()[file]; none != nil {
				t.Errorf("every release has it: %s", none)
			}
		})
	}
}

func TestLicense_BelongsToTheCustomer(t *testing.T) {
	for _, c := range []Customer{firstCustomer, RenewedCustomer} {
		for i := range c.licenses {
			t.Run(c.licenses[i], func(t *testing.T) {
				data, err := c.License(i)
				if errors.Is(err, fs.ErrNotExist) {
					t.Skip(err)
				}
				l, err := kots.ReadLicense(data, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
				if err != nil || l.Slug != c.Slug || l.Channel != c.channelName || !l.Airgap {
					t.Errorf("%+v, %v", l, err)
				}
			})
		}
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
