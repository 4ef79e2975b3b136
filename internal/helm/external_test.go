package helm_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/charts"
	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// example returns the release of the example chart, with a CRD, hooks and a dependency.
func example(t *testing.T) helm.Release {
	t.Helper()
	archive, err := charts.ReadLocal("../charts/testdata/hello")
	testkit.Must(t, err)
	return helm.Release{Name: "toy", Namespace: "a", Archive: archive, External: true}
}

func TestInstallOrUpgrade_RunsHooksAndCRDsInTheOrderOfHelm(t *testing.T) {
	const job, crd = "/apis/batch/v1/namespaces/a/jobs/toy-migrate", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/greetings.example.com"
	s, c := kubetest.New(t)
	r := example(t)
	testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
	want := []string{
		"POST /api/v1/namespaces", "POST /api/v1/namespaces/a/secrets",
		"PATCH " + crd,
		"PATCH " + job, "DELETE " + job,
		"PATCH /api/v1/namespaces/a/services/toy", "PATCH /apis/apps/v1/namespaces/a/deployments/toy", "PATCH /apis/apps/v1/namespaces/a/statefulsets/toy-cache",
		"PATCH /apis/example.com/v1/namespaces/a/greetings/toy",
		"PUT /api/v1/namespaces/a/secrets/sh.helm.release.v1.toy.v1",
	}
	if got := s.Writes(); !slices.Equal(got, want) {
		t.Errorf("wrote\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
	if got := s.Writes(); len(got) != 0 {
		t.Errorf("the second run wrote %q", got)
	}
	r.Values = map[string]any{"cache": map[string]any{"enabled": false}}
	testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
	got := s.Writes()
	if !slices.Contains(got, "PATCH "+job) || slices.Contains(got, "PATCH "+crd) || !slices.Contains(got, "DELETE /apis/apps/v1/namespaces/a/statefulsets/toy-cache") {
		t.Errorf("the upgrade wrote %q", got)
	}
	testkit.Must(t, helm.Uninstall(t.Context(), c, "a", "toy", longWait()))
	if s.Object(crd) == nil || s.Object("/apis/apps/v1/namespaces/a/deployments/toy") != nil {
		t.Error("after the removal, the CRD must exist and the Deployment must not")
	}
	if got := s.Writes(); slices.Contains(got, "PATCH "+job) {
		t.Errorf("the removal wrote %q", got)
	}
}

func TestInstallOrUpgrade_NamesTheHookThatFails(t *testing.T) {
	s, c := kubetest.New(t)
	s.Logs = map[string]string{"a/toy-migrate-x": "2026-01-02T03:04:05Z no database\n"}
	s.SetAdmit(func(obj map[string]any) {
		kubetest.MarkReady(obj)
		if obj["kind"] == "Job" {
			obj["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Failed", "status": "True", "message": "Job has reached the specified backoff limit"}}}
		}
	})
	s.Put("/api/v1/namespaces/a/pods/toy-migrate-x", map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "toy-migrate-x", "namespace": "a",
		"labels": map[string]any{"job-name": "toy-migrate"}}})
	r := example(t)
	err := helm.InstallOrUpgrade(t.Context(), c, r, longWait())
	want := "pre-install hook toy-migrate (hello/templates/migrate.yaml): Job a/toy-migrate failed: Job has reached the specified backoff limit; last log line of pod a/toy-migrate-x: no database"
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), want) {
		t.Fatalf("%v\nwant %s", err, want)
	}
	if in := mustGetInstalled(t, c); in.Status != "pending-install" {
		t.Errorf("the failed install left no record: %+v", in)
	}
	if s.Object("/apis/apps/v1/namespaces/a/deployments/toy") != nil {
		t.Error("objects were applied after a failed hook")
	}
	s.SetAdmit(kubetest.MarkReady)
	testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
	if in := mustGetInstalled(t, c); in.Status != "deployed" {
		t.Errorf("%+v", in)
	}
}

// A run that resumes a killed install installs: it does not run the hooks of an upgrade.
func TestInstallOrUpgrade_ResumesAnInstallAsAnInstall(t *testing.T) {
	hook := func(event string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + event + ", annotations: {helm.sh/hook: " + event + "}}\n"
	}
	s, c := kubetest.New(t)
	s.SetAdmit(nil)
	r := newRelease(t, map[string]string{"a.yaml": hook("pre-install"), "b.yaml": hook("pre-upgrade"), "c.yaml": hook("post-install"), "d.yaml": hook("post-upgrade"),
		"e.yaml": hook("pre-delete"), "f.yaml": hook("post-delete"), "g.yaml": deployment, "h.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: is-{{ if .Release.IsUpgrade }}upgrade{{ else }}install{{ end }}}\n"})
	r.External = true
	at := func(name string) bool { return s.Object("/api/v1/namespaces/a/configmaps/"+name) != nil }
	if err := helm.InstallOrUpgrade(t.Context(), c, r, shortWait()); err == nil {
		t.Fatal("nothing became ready")
	}
	if !at("pre-install") || at("post-install") {
		t.Error("after the killed run")
	}
	s.SetAdmit(kubetest.MarkReady)
	testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
	if !at("post-install") || at("pre-upgrade") || at("post-upgrade") || s.Object("/api/v1/namespaces/a/secrets/is-install") == nil {
		t.Error("after the install")
	}
	r.Values = map[string]any{"replicas": 1}
	testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
	if !at("pre-upgrade") || !at("post-upgrade") || at("pre-delete") || s.Object("/api/v1/namespaces/a/secrets/is-upgrade") == nil {
		t.Error("after the upgrade")
	}
	testkit.Must(t, helm.Uninstall(t.Context(), c, "a", "toy", longWait()))
	if !at("pre-delete") || !at("post-delete") {
		t.Error("after the removal")
	}
}

func TestInstallOrUpgrade_ReadsTheClusterWithLookup(t *testing.T) {
	_, c := kubetest.New(t)
	const text = `{{ $old := lookup "v1" "ConfigMap" .Release.Namespace "kept" }}` + "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {num: '{{ if $old }}{{ add1 (int $old.data.num) }}{{ else }}1{{ end }}'}\n"
	r := newRelease(t, map[string]string{"a.yaml": text})
	r.External = true
	for i, want := range []string{"1", "2"} {
		r.Values = map[string]any{"x": i}
		testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
		obj, err := c.Get(t.Context(), kube.Object{APIVersion: "v1", Kind: "ConfigMap", Namespace: "a", Name: "kept"})
		testkit.Must(t, err)
		if data, _ := obj.Object["data"].(map[string]any); data["num"] != want {
			t.Errorf("revision %d has %v", i+1, data)
		}
	}
}

func TestUninstall_KeepsWhatTheChartKeeps(t *testing.T) {
	s, c := kubetest.New(t)
	r := newRelease(t, map[string]string{"a.yaml": configMap, "b.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: kept, annotations: {helm.sh/resource-policy: keep}}\n",
		"c.yaml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a.example.com}\n",
		"d.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: more}\n"})
	r.External = true
	testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
	testkit.Must(t, helm.Uninstall(t.Context(), c, "a", "toy", longWait()))
	if s.Object("/api/v1/namespaces/a/secrets/kept") == nil || s.Object("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/a.example.com") == nil ||
		s.Object("/api/v1/namespaces/more") == nil { // its volumes would go with it
		t.Error("something that is kept is gone")
	}
	if s.Object("/api/v1/namespaces/a/configmaps/web") != nil {
		t.Error("something remains")
	}
	if _, err := helm.GetInstalled(t.Context(), c, "a", "toy"); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("its record remains: %v", err)
	}
}

// A Job that was deleted when it was done is not missing.
func TestMissingObjects_IgnoresJobs(t *testing.T) {
	s, c := kubetest.New(t)
	r := newRelease(t, map[string]string{"a.yaml": "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once}\n"})
	r.External = true
	testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
	s.Remove("/apis/batch/v1/namespaces/a/jobs/once")
	if missing, err := helm.MissingObjects(t.Context(), c, r); err != nil || len(missing) > 0 {
		t.Errorf("%v %v", missing, err)
	}
}

func TestServedAPIs_FollowTheVersion(t *testing.T) {
	for version, want := range map[string]map[string]bool{
		"v1.33.8+k0s": {"v1": true, "apps/v1/Deployment": true, "policy/v1beta1": false, "apiregistration.k8s.io/v1/APIService": true, "resource.k8s.io/v1": false, "storage.k8s.io/v1/StorageClass": true},
		"v1.34.0+k0s": {"resource.k8s.io/v1/ResourceClaim": true},
	} {
		t.Run(version, func(t *testing.T) {
			for api, served := range want {
				if slices.Contains(helm.ServedAPIs(version), api) != served {
					t.Errorf("%s: want %v", api, served)
				}
			}
		})
	}
}

// The program of a chart before can define the kind later, and its webhook can answer later.
func TestInstallOrUpgrade_WaitsUntilKindsAreServed(t *testing.T) {
	s, c := kubetest.New(t)
	const crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/greetings.example.com"
	r := newRelease(t, map[string]string{"a.yaml": "apiVersion: example.com/v1\nkind: Greeting\nmetadata: {name: late}\n"})
	r.External = true
	w, asked := longWait(), 0
	w.Report = func(message string, _, _ int64) {
		if asked++; !strings.Contains(message, "Greeting") {
			t.Errorf("waiting for %q", message)
		}
		s.Put(crd, map[string]any{"kind": "CustomResourceDefinition"})
	}
	if err := helm.InstallOrUpgrade(t.Context(), c, r, w); err != nil || asked == 0 || s.Object("/apis/example.com/v1/namespaces/a/greetings/late") == nil {
		t.Errorf("%v, asked %d times", err, asked)
	}
	s.Remove(crd)
	if err := helm.Uninstall(t.Context(), c, "a", "toy", longWait()); err != nil {
		t.Errorf("a kind that is gone: %v", err)
	}
}

func TestNotReadyReason_FollowsTheRelease(t *testing.T) {
	s, c := kubetest.New(t)
	reason := func() string {
		t.Helper()
		got, err := helm.NotReadyReason(t.Context(), c, "a", "toy")
		testkit.Must(t, err)
		return got
	}
	if got := reason(); got != "it is not installed" {
		t.Errorf("before: %s", got)
	}
	r := example(t)
	s.SetAdmit(func(obj map[string]any) {
		if obj["kind"] != "StatefulSet" {
			kubetest.MarkReady(obj)
		}
	})
	if err := helm.InstallOrUpgrade(t.Context(), c, r, shortWait()); err == nil {
		t.Fatal("the StatefulSet is not ready")
	}
	if got := reason(); got != "StatefulSet a/toy-cache: 0 of 1 pods updated" {
		t.Errorf("while it starts: %s", got)
	}
	s.SetAdmit(kubetest.MarkReady)
	testkit.Must(t, helm.InstallOrUpgrade(t.Context(), c, r, longWait()))
	if got := reason(); got != "" {
		t.Errorf("after: %s", got)
	}
}

// What a chart renders to can depend on other charts and on Kubernetes.
func TestDigest_OfExternalChartsDependsOnTheCluster(t *testing.T) {
	own := helm.Release{Name: "a", APIVersions: []string{"a/v1"}, Kubernetes: 33}
	external := own
	external.External = true
	for name, change := range map[string]func(*helm.Release){
		"APIs":       func(r *helm.Release) { r.APIVersions = []string{"b/v1"} },
		"Kubernetes": func(r *helm.Release) { r.Kubernetes = 34 },
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []helm.Release{own, external} {
				other := r
				change(&other)
				was, err := r.Digest()
				testkit.Must(t, err)
				is, err := other.Digest()
				testkit.Must(t, err)
				if (was != is) != r.External {
					t.Errorf("external %v: %s and %s", r.External, was, is)
				}
			}
		})
	}
}
