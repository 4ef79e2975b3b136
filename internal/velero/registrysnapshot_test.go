package velero

import (
	"slices"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/testkit"
)

const backupsPath = "/apis/velero.io/v1/namespaces/velero/backups/"

// instanceBackup returns a full snapshot that was created and started at a time.
func instanceBackup(name, phase string, created, started time.Time) map[string]any {
	return map[string]any{"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": map[string]any{"name": name, "namespace": "velero", "creationTimestamp": created.Format(time.RFC3339),
		"annotations": map[string]any{"kots.io/instance": "true", "kots.io/embedded-registry": "10.96.0.11:5000"}},
		"spec": map[string]any{"ttl": "720h0m0s"}, "status": map[string]any{"phase": phase, "startTimestamp": started.Format(time.RFC3339)}}
}

func TestEnsureRegistrySnapshots_TakesOneForEachNewSnapshot(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	recent := now.Add(-time.Minute)
	for name, c := range map[string]struct {
		backup map[string]any
		more   func(annotations map[string]any)
		taken  bool
	}{
		"running":                {instanceBackup("s1", "InProgress", recent, recent), nil, true},
		"done":                   {instanceBackup("s1", "Completed", recent, recent), nil, true},
		"failed":                 {instanceBackup("s1", "PartiallyFailed", recent, recent), nil, false},
		"old":                    {instanceBackup("s1", "Completed", now.Add(-48*time.Hour), now.Add(-48*time.Hour)), nil, false},
		"found in the store":     {instanceBackup("s1", "Completed", recent, recent.Add(-time.Hour)), nil, false},
		"without a registry":     {instanceBackup("s1", "Completed", recent, recent), func(a map[string]any) { delete(a, "kots.io/embedded-registry") }, false},
		"not of the console":     {instanceBackup("s1", "Completed", recent, recent), func(a map[string]any) { delete(a, "kots.io/instance") }, false},
		"of the registry itself": {instanceBackup("s1", "Completed", recent, recent), func(a map[string]any) { clear(a); a[RegistryOfAnnotation] = "s0" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			o, s := newOperator(t, "Completed")
			if c.more != nil {
				c.more(c.backup["metadata"].(map[string]any)["annotations"].(map[string]any))
			}
			s.Put(backupsPath+"s1", c.backup)
			begun, err := o.EnsureRegistrySnapshots(t.Context(), "registry", now)
			testkit.Must(t, err)
			have := s.Object(backupsPath + "s1-registry")
			if slices.Equal(begun, []string{"s1-registry"}) != c.taken || (have != nil) != c.taken {
				t.Fatalf("%v %v", begun, have)
			}
			if c.taken && (field(have, "metadata", "annotations", RegistryOfAnnotation) != "s1" || field(have, "spec", "ttl") != "720h0m0s" || field(have, "spec", "defaultVolumesToFsBackup") != true) {
				t.Errorf("%v", have)
			}
			if begun, err := o.EnsureRegistrySnapshots(t.Context(), "registry", now); err != nil || len(begun) > 0 {
				t.Errorf("a second one: %v %v", begun, err)
			}
		})
	}
}
