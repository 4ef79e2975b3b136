package support

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/supportspec"
)

func TestSpecFiles_AreInTheBundle(t *testing.T) {
	m := newCluster(t)
	spec := "apiVersion: troubleshoot.sh/v1beta2\nkind: SupportBundle\nmetadata: {name: app}\nspec:\n  collectors:\n" +
		"    - postgres: {uri: 'postgres://app:p0stgresWord@db/app'}\n    - data:\n        name: license.yaml\n        data: |\n          spec:\n" +
		"            licenseID: 2abcDEFghiJKLmnoPQR\n            signature: bGljZW5zZS1zaWduYXR1cmU=\n---\n# nothing\n---\nkind: SupportBundle\n"
	meta := func(name, label string) map[string]any {
		return map[string]any{"namespace": "kotsadm", "name": name, "labels": map[string]any{label: "support-bundle"}}
	}
	m.api.Put("/api/v1/namespaces/kotsadm/secrets/kotsadm-app-supportbundle", map[string]any{
		"metadata": meta("kotsadm-app-supportbundle", "troubleshoot.sh/kind"), "data": map[string]any{supportspec.BundleKey: base64.StdEncoding.EncodeToString([]byte(spec))}})
	m.api.Put("/api/v1/namespaces/kotsadm/configmaps/kotsadm-app-supportbundle-default", map[string]any{
		"metadata": meta("kotsadm-app-supportbundle-default", "troubleshoot.io/kind"), "data": map[string]any{supportspec.BundleKey: "{{repl not YAML"}})
	m.api.Put("/api/v1/namespaces/kotsadm/secrets/other", map[string]any{"metadata": map[string]any{"namespace": "kotsadm", "name": "other"},
		"data": map[string]any{supportspec.BundleKey: base64.StdEncoding.EncodeToString([]byte("kind: SupportBundle"))}})
	m.api.Put("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/backups.velero.io", map[string]any{"metadata": map[string]any{"name": "backups.velero.io"}})
	_, found := m.createFrom(t, &fakeAgents{})

	var names []string
	for name, content := range found {
		if strings.HasPrefix(name, folderSpecs) {
			names = append(names, name)
		}
		for _, secret := range []string{"p0stgresWord", "2abcDEFghiJKLmnoPQR", "bGljZW5zZS1zaWduYXR1cmU="} {
			if strings.Contains(content, secret) {
				t.Errorf("%s has %s", name, secret)
			}
		}
	}
	slices.Sort(names)
	const first = folderSpecs + "kotsadm/secret-kotsadm-app-supportbundle.json"
	want := []string{folderSpecs + "kotsadm/configmap-kotsadm-app-supportbundle-default.yaml", folderSpecs + "kotsadm/secret-kotsadm-app-supportbundle-2.json", first}
	if !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	var doc struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := json.Unmarshal([]byte(found[first]), &doc); err != nil || doc.APIVersion != "troubleshoot.sh/v1beta2" || doc.Kind != "SupportBundle" {
		t.Errorf("%v: %s", err, found[first])
	}
	if !strings.Contains(found[folderCluster+"custom-resource-definitions.json"], "backups.velero.io") {
		t.Error("the definitions of custom resources are missing")
	}
}
