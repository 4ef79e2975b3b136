package helm_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/problem"
)

const (
	deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: {{ .Values.replicas }}}\n"
	configMap  = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: {{ .Release.Namespace }}}\n"
)

// packChart returns a chart archive with these templates, by file name.
func packChart(t *testing.T, templates map[string]string) []byte {
	t.Helper()
	files := map[string]string{"toy/Chart.yaml": "apiVersion: v2\nname: toy\nversion: 1.2.3\n", "toy/values.yaml": "replicas: 1\n"}
	for name, text := range templates {
		files["toy/templates/"+name] = text
	}
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zip)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func newRelease(t *testing.T, templates map[string]string) helm.Release {
	return helm.Release{Name: "toy", Namespace: "a", Archive: packChart(t, templates)}
}

// longWait is long enough for a condition that becomes true, also on a busy machine.
func longWait() kube.Wait { return kube.Wait{Timeout: 20 * time.Second} }

// shortWait is for a condition that never becomes true.
func shortWait() kube.Wait { return kube.Wait{Timeout: 2 * time.Second} }

func mustGetInstalled(t *testing.T, c *kube.Client) helm.Installed {
	t.Helper()
	in, err := helm.GetInstalled(t.Context(), c, "a", "toy")
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestInstallOrUpgrade_WritesNothingOnSecondRun(t *testing.T) {
	s, c := kubetest.New(t)
	r := newRelease(t, map[string]string{"a.yaml": configMap, "b.yaml": deployment})
	if _, err := helm.GetInstalled(t.Context(), c, "a", "toy"); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	if err := helm.InstallOrUpgrade(t.Context(), c, r, longWait()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"POST /api/v1/namespaces", "POST /api/v1/namespaces/a/secrets",
		"PATCH /api/v1/namespaces/a/configmaps/web", "PATCH /apis/apps/v1/namespaces/a/deployments/web",
		"PUT /api/v1/namespaces/a/secrets/sh.helm.release.v1.toy.v1",
	}
	if got := s.Writes(); !slices.Equal(got, want) {
		t.Errorf("wrote %q, want %q", got, want)
	}
	digest, err := r.Digest()
	if in := mustGetInstalled(t, c); err != nil || in != (helm.Installed{Revision: 1, ChartVersion: "1.2.3", Digest: digest, Status: "deployed"}) {
		t.Errorf("installed %+v, %v", in, err)
	}
	if err := helm.InstallOrUpgrade(t.Context(), c, r, longWait()); err != nil {
		t.Fatal(err)
	}
	if got := s.Writes(); len(got) != 0 {
		t.Errorf("the second run wrote %q", got)
	}
}

func TestInstallOrUpgrade_RestoresDeletedObject(t *testing.T) {
	s, c := kubetest.New(t)
	r := newRelease(t, map[string]string{"a.yaml": configMap})
	for range 2 {
		if err := helm.InstallOrUpgrade(t.Context(), c, r, longWait()); err != nil {
			t.Fatal(err)
		}
		if missing, err := helm.MissingObjects(t.Context(), c, r); err != nil || len(missing) > 0 {
			t.Fatalf("%v %v", missing, err)
		}
		const at = "/api/v1/namespaces/a/configmaps/web"
		if s.Object(at) == nil {
			t.Fatal("the object does not exist")
		}
		s.Remove(at)
		if missing, err := helm.MissingObjects(t.Context(), c, r); err != nil || len(missing) != 1 || missing[0].Name != "web" {
			t.Fatalf("%v %v", missing, err)
		}
	}
	if in := mustGetInstalled(t, c); in.Revision != 1 {
		t.Errorf("revision %d", in.Revision)
	}
}

func TestInstallOrUpgrade_AddsRevisionAndPrunesObjects(t *testing.T) {
	s, c := kubetest.New(t)
	r := newRelease(t, map[string]string{"a.yaml": configMap, "b.yaml": deployment})
	if err := helm.InstallOrUpgrade(t.Context(), c, r, longWait()); err != nil {
		t.Fatal(err)
	}
	r = newRelease(t, map[string]string{"b.yaml": deployment})
	r.Values = map[string]any{"replicas": 1}
	if err := helm.InstallOrUpgrade(t.Context(), c, r, longWait()); err != nil {
		t.Fatal(err)
	}
	if in := mustGetInstalled(t, c); in.Revision != 2 || in.Status != "deployed" {
		t.Errorf("installed %+v", in)
	}
	if s.Object("/api/v1/namespaces/a/configmaps/web") != nil {
		t.Error("an object that the new revision does not have still exists")
	}
}

func TestInstallOrUpgrade_ContinuesKilledRun(t *testing.T) {
	s, c := kubetest.New(t)
	s.SetAdmit(nil) // nothing becomes ready: the first run ends before the release is recorded as deployed
	r := newRelease(t, map[string]string{"b.yaml": deployment})
	err := helm.InstallOrUpgrade(t.Context(), c, r, shortWait())
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "Deployment a/web to be ready") {
		t.Fatalf("got %v", err)
	}
	if in := mustGetInstalled(t, c); in.Status != "pending-install" {
		t.Fatalf("installed %+v", in)
	}
	s.SetAdmit(kubetest.MarkReady)
	if err := helm.InstallOrUpgrade(t.Context(), c, r, longWait()); err != nil {
		t.Fatal(err)
	}
	if in := mustGetInstalled(t, c); in.Status != "deployed" || in.Revision != 2 {
		t.Errorf("installed %+v", in)
	}
}

func TestInstallOrUpgrade_RejectsInvalidCharts(t *testing.T) {
	_, c := kubetest.New(t)
	for name, tt := range map[string]struct{ text, want string }{
		"hook":          {"apiVersion: v1\nkind: Pod\nmetadata: {name: h, annotations: {helm.sh/hook: pre-install}}\n", "hooks"},
		"missing value": {"kind: ConfigMap\napiVersion: v1\nmetadata: {name: {{ .Values.absent.name }}}\n", "absent"},
		"not yaml":      {"kind: [\n", "toy/templates/a.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			err := helm.InstallOrUpgrade(t.Context(), c, newRelease(t, map[string]string{"a.yaml": tt.text}), longWait())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
	t.Run("not an archive", func(t *testing.T) {
		if _, err := (helm.Release{Name: "toy", Archive: []byte("x")}).Render("v1.33.8"); err == nil {
			t.Error("an invalid archive was rendered")
		}
	})
}

func TestDigest_DependsOnEveryField(t *testing.T) {
	base := helm.Release{Name: "a", Namespace: "b", Archive: []byte("c"), Values: map[string]any{"d": 1}}
	seen := map[string]string{}
	for name, change := range map[string]func(*helm.Release){
		"nothing": func(*helm.Release) {}, "name": func(r *helm.Release) { r.Name = "x" }, "namespace": func(r *helm.Release) { r.Namespace = "x" },
		"chart": func(r *helm.Release) { r.Archive = []byte("x") }, "values": func(r *helm.Release) { r.Values = map[string]any{"d": 2} },
		"moved border": func(r *helm.Release) { r.Name, r.Namespace = "ab", "" },
	} {
		t.Run(name, func(t *testing.T) {
			r := base
			change(&r)
			d, err := r.Digest()
			if err != nil || len(d) != 32 || seen[d] != "" {
				t.Errorf("digest %q, the same as %q, %v", d, seen[d], err)
			}
			seen[d] = name
		})
	}
}

func TestUninstall_RemovesObjectsAndRecords(t *testing.T) {
	s, c := kubetest.New(t)
	r := newRelease(t, map[string]string{"a.yaml": configMap, "b.yaml": deployment, "c.yaml": "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n",
		"d.yaml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: toys.example.com}\n"})
	if err := helm.InstallOrUpgrade(t.Context(), c, r, longWait()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second run finds nothing
		if err := helm.Uninstall(t.Context(), c, "a", "toy", longWait()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := helm.GetInstalled(t.Context(), c, "a", "toy"); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("the record remains: %v", err)
	}
	for _, path := range []string{"/api/v1/namespaces/a/configmaps/web", "/apis/apps/v1/namespaces/a/deployments/web"} {
		if s.Object(path) != nil {
			t.Errorf("%s remains", path)
		}
	}
	for _, path := range []string{"/api/v1/namespaces/a/persistentvolumeclaims/data", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/toys.example.com"} {
		if s.Object(path) == nil {
			t.Errorf("%s is gone, and its data", path)
		}
	}
}
