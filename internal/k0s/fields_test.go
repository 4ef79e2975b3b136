package k0s

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/k0sproject/k0s/pkg/apis/k0s/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/plinthdev/plinth/internal/spec"
)

// clusterConfigFields returns the paths of all fields of a ClusterConfig that hold a value, and of the
// structures above them.
func clusterConfigFields() (leaves, parents []string) {
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
			t, path = t.Elem(), path+"[]"
		}
		fields := map[string]reflect.Type{}
		if t.Kind() == reflect.Struct {
			fields = jsonFieldTypes(t)
		}
		if len(fields) == 0 {
			leaves = append(leaves, path)
			return
		}
		parents = append(parents, path)
		for name, below := range fields {
			walk(below, strings.TrimPrefix(path+"."+name, "."))
		}
	}
	walk(reflect.TypeFor[v1beta1.ClusterConfig](), "")
	return leaves, parents
}

// A field that a later k0s adds needs a decision: this test fails until it has a row. Only below an
// owned field it needs none, because setting it is an error.
func TestK0sFields_HaveARowForEveryFieldOfK0s(t *testing.T) {
	leaves, _ := clusterConfigFields()
	if len(leaves) < 120 {
		t.Fatalf("%d fields: the types are not read to the end", len(leaves))
	}
	table := spec.K0sFields()
	for _, leaf := range leaves {
		covered := slices.ContainsFunc(table, func(f spec.K0sField) bool {
			return f.Path == leaf || f.Treatment == spec.Owned && strings.HasPrefix(leaf, f.Path+".")
		})
		if !covered {
			t.Errorf("%s has no row in spec.K0sFields", leaf)
		}
	}
}

func TestK0sFields_HaveNoRowWithoutAField(t *testing.T) {
	leaves, parents := clusterConfigFields()
	seen := map[[2]string]bool{}
	for _, f := range spec.K0sFields() {
		parent, _, isFlag := strings.Cut(f.Path, ".extraArgs.")
		kubelet := strings.HasPrefix(f.Path, "spec.workerProfiles[].values.")
		switch {
		case seen[[2]string{f.Path, f.Value}]:
			t.Errorf("%s has two rows", f.Path)
		case isFlag && !slices.Contains(leaves, parent+".extraArgs"), !isFlag && !kubelet && !slices.Contains(append(leaves, parents...), f.Path):
			t.Errorf("k0s has no field %s", f.Path)
		case f.Treatment != spec.Owned && slices.Contains(parents, f.Path):
			t.Errorf("%s is %s as a whole: a new field below it would be, too", f.Path, f.Treatment)
		case (f.Reason == "") != (f.Treatment == spec.Passed):
			t.Errorf("%s is %s with the reason %q", f.Path, f.Treatment, f.Reason)
		}
		seen[[2]string{f.Path, f.Value}] = true
	}
}

// A finding of the table has a place in the file; the error of k0s has none.
func TestK0sFields_OwnWhatK0sRefusesInAWorkerProfile(t *testing.T) {
	for _, key := range []string{"clusterDNS", "clusterDomain", "apiVersion", "kind", "staticPodURL"} {
		p := v1beta1.WorkerProfile{Name: "default", Config: &runtime.RawExtension{Raw: []byte(`{"` + key + `": "x"}`)}}
		owned := slices.ContainsFunc(spec.K0sFields(), func(f spec.K0sField) bool {
			return f.Path == "spec.workerProfiles[].values."+key && f.Treatment == spec.Owned
		})
		if p.Validate() == nil || !owned {
			t.Errorf("%s: k0s says %v, owned %t", key, p.Validate(), owned)
		}
	}
}
