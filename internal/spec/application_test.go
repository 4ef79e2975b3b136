package spec_test

import (
	"os"
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

func TestFindApplication_ReturnsFirstOfRelease(t *testing.T) {
	file := func(name, data string) spec.File { return spec.File{Name: name, Data: []byte(data)} }
	config := file("config.yaml", "apiVersion: kots.io/v1beta1\nkind: Config\nspec: {groups: []}\n")
	sig := file("sig.yaml", "apiVersion: app.k8s.io/v1beta1\nkind: Application\nspec: {descriptor: {version: &v '1'}}\n")
	template := file("template.yaml", "{{ if x }}\nkind: Deployment\n")
	binary := file("chart.tgz", "\x1f\x8b\x00\x00kots.io/v1beta1")
	multi := file("multi.yaml", "a: [\n---\r\nkind: ConfigMap\r\n---\r\napiVersion: 'kots.io/v1beta1'\r\nkind: \"Application\"\r\nmetadata: {name: m}\r\nspec:\r\n  title: Multi\r\n  targetKotsVersion: 1.75.0\r\n")
	later := file("z.yaml", "apiVersion: kots.io/v1beta1\nkind: Application\nspec: {title: Later, minKotsVersion: wrong}\n")

	t.Run("first of several", func(t *testing.T) {
		app, findings := spec.FindApplication(config, sig, template, binary, multi, later)
		if app == nil || len(findings) != 0 {
			t.Fatalf("%v %v", app, findings)
		}
		if want := (spec.Application{File: "multi.yaml", Name: "m", Title: "Multi", TargetKotsVersion: "1.75.0"}); *app != want {
			t.Errorf("got %+v", *app)
		}
	})
	t.Run("none", func(t *testing.T) {
		if app, findings := spec.FindApplication(config, sig, template, binary); app != nil || findings != nil {
			t.Errorf("found %v %v", app, findings)
		}
	})
	t.Run("first is invalid", func(t *testing.T) {
		if app, findings := spec.FindApplication(later, multi); app != nil || !spec.HasErrors(findings) {
			t.Errorf("the invalid Application was skipped: %v %v", app, findings)
		}
	})
	t.Run("first has a syntax error", func(t *testing.T) {
		broken := file("broken.yaml", "apiVersion: kots.io/v1beta1\nkind: Application\nspec: {title: \"x\n")
		if app, findings := spec.FindApplication(broken, multi); app != nil || !spec.HasErrors(findings) {
			t.Errorf("the Application with a syntax error was skipped: %v %v", app, findings)
		}
	})
}

func TestParseApplication_IgnoresOtherKeysOfKOTS(t *testing.T) {
	data, err := os.ReadFile("testdata/gate-pass.app.yaml")
	if err != nil {
		t.Fatal(err)
	}
	data = append(data, "  unknownToPlinth: {1: 2, when: 2026-01-02, deep: [[[]]]}\n  graphs: [{title: x, durationSeconds: 5.5}]\n"...)
	app, findings := spec.ParseApplication("a", data)
	if app == nil || len(findings) != 0 {
		t.Errorf("%v %v", app, findings)
	}
	if app != nil && !slices.Equal([]string{app.Title, app.MinKotsVersion, app.TargetKotsVersion}, []string{"My App", "1.100.0", "v1.131.2"}) {
		t.Errorf("got %+v", app)
	}
}
