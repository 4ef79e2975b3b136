package addons

import (
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

func TestFind_ReturnsTheEntryThatCoversTheVersion(t *testing.T) {
	d := definition{
		Images: map[string]string{"main": "docker.io/a/main:v{version}", "db": "docker.io/a/db:0"},
		Versions: []addOnVersion{
			{From: "1.9.0", Images: map[string]string{"db": "docker.io/a/db:1"}},
			{From: "1.10.2", Images: map[string]string{"db": "docker.io/a/db:2"}},
			{Version: "2.0.0"},
			{From: "2.1.0", Images: map[string]string{"db": ""}},
		},
	}
	for version, db := range map[string]string{
		"1.8.9": "-", "1.9.0": "docker.io/a/db:1", "1.10.1": "docker.io/a/db:1", "1.10.2": "docker.io/a/db:2", "1.99.0": "docker.io/a/db:2",
		"2.0.0": "docker.io/a/db:0", "2.0.1": "-", "2.1.0": "", "3.0.0": "", "1.10": "-", "1.10.2-beta": "-",
	} {
		t.Run(version, func(t *testing.T) {
			r, ok := d.find(version)
			if ok != (db != "-") {
				t.Fatalf("supported is %v", ok)
			}
			if images := d.imagesOf(r); ok && (images["db"] != db || images["main"] != "docker.io/a/main:v"+version) {
				t.Errorf("%v, want db %q", images, db)
			}
		})
	}
	if got, want := d.supported(), "1.9.0, 2.0.0, 2.1.0 and later"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What KOTS publishes: .image.env at the tag of each version.
func TestResolve_NamesTheDatabaseOfEachKOTS(t *testing.T) {
	for version, tag := range map[string]string{
		"1.109.0": "8.24.2-r1", "1.110.0": "8.26.2-r0", "1.124.18": "8.37.3-r0", "1.129.1": "9.3.4", "1.130.1": "9.4.5", "1.130.5": "10.2.2",
		"1.130.9": "10.2.7", "1.131.2": "10.2.7", "1.131.4": "10.2.7", "1.132.0": "10.3.4",
	} {
		t.Run(version, func(t *testing.T) {
			in := fullInstaller()
			in.Spec.Kotsadm.Version = version
			parts, err := Resolve(in, "/")
			if err != nil {
				t.Fatal(err)
			}
			images := parts[4].Images
			if images["rqlite"] != "docker.io/kotsadm/rqlite:"+tag || images["kotsadm"] != "docker.io/kotsadm/kotsadm:v"+version {
				t.Errorf("%v, want rqlite %s", images, tag)
			}
		})
	}
	t.Run("a version that only its CLI knows", func(t *testing.T) {
		in := fullInstaller()
		in.Spec.Kotsadm.Version = "1.140.0"
		parts, err := Resolve(in, "/")
		if err != nil || parts[4].Images["rqlite"] != "" || len(parts[4].ImageRefs()) != 3 {
			t.Errorf("%+v, %v", parts, err)
		}
	})
}

// The two tables of KOTS's versions begin with the same one, and neither names one that the other lacks.
func TestKOTSRanges_AgreeWithTheMatrix(t *testing.T) {
	all, err := loadDefinitions(definitionFiles)
	if err != nil {
		t.Fatal(err)
	}
	kots := all[slices.IndexFunc(all, func(d definition) bool { return d.Key == "kotsadm" })]
	releases := spec.Versions().KOTSReleases()
	if kots.Versions[0].From != releases[0] {
		t.Errorf("addon.yaml begins with %s, versions.yaml with %s", kots.Versions[0].From, releases[0])
	}
	for _, r := range kots.Versions {
		if r.Images["rqlite"] != "" && !slices.Contains(releases, r.From) {
			t.Errorf("versions.yaml lacks %s", r.From)
		}
	}
	for _, version := range releases {
		if _, ok := kots.find(version); !ok {
			t.Errorf("addon.yaml does not cover %s", version)
		}
	}
}
