package velero_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/testkit/storetest"
	"github.com/plinthdev/plinth/internal/velero"
)

var takenAt = time.Date(2026, 11, 30, 2, 0, 0, 0, time.UTC)

func TestListSnapshots_NamesWhyOneCannotBeRestored(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *storetest.Snapshot)
		want   string // "" if it can be restored
	}{
		"complete": {func(*storetest.Snapshot) {}, ""},
		"running":  {func(s *storetest.Snapshot) { s.Phase = "InProgress" }, `its phase is "InProgress"`},
		"failed": {func(s *storetest.Snapshot) {
			s.Phase = "Failed"
			s.Status = map[string]any{"failureReason": "no space left"}
		}, "it failed: Failed with 0 errors; no space left"},
		"partially failed":  {func(s *storetest.Snapshot) { s.Phase = "PartiallyFailed"; s.Status = map[string]any{"errors": 3} }, "it failed: PartiallyFailed with 3 errors"},
		"failed validation": {func(s *storetest.Snapshot) { s.Phase = "FailedValidation" }, "it failed: FailedValidation"},
		"being deleted":     {func(s *storetest.Snapshot) { s.Phase = "Deleting" }, `its phase is "Deleting"`},
		"half uploaded":     {func(s *storetest.Snapshot) { s.Without = []string{".tar.gz"} }, "it is not complete: s1.tar.gz with its objects is missing"},
		"copied in part": {func(s *storetest.Snapshot) { s.Without = []string{"-podvolumebackups.json.gz"} },
			"it is not complete: s1-podvolumebackups.json.gz with the list of its volumes is missing"},
		"without a description": {func(s *storetest.Snapshot) { s.Without = []string{"velero-backup.json"} }, "it has no velero-backup.json"},
		"damaged description":   {func(s *storetest.Snapshot) { s.Replace = map[string][]byte{"velero-backup.json": []byte("{")} }, "its description cannot be read"},
		"of another name": {func(s *storetest.Snapshot) {
			s.Replace = map[string][]byte{"velero-backup.json": []byte(`{"metadata":{"name":"s2"}}`)}
		}, `it is that of "s2"`},
		"of an application":   {func(s *storetest.Snapshot) { s.Annotations = map[string]string{"kots.io/app-id": "1"} }, "it is a partial one"},
		"of Embedded Cluster": {func(s *storetest.Snapshot) { s.Annotations = map[string]string{"replicated.com/backup-type": "infra"} }, "Embedded Cluster"},
		"of something else":   {func(s *storetest.Snapshot) { s.Annotations = nil }, "not a full snapshot of a KOTS console"},
		"of a registry":       {func(s *storetest.Snapshot) { s.Annotations = map[string]string{"plinth.dev/registry-of": "s0"} }, "only the content of the registry"},
		"no namespace":        {func(s *storetest.Snapshot) { delete(s.Annotations, "kots.io/kotsadm-deploy-namespace") }, "it does not name the namespace"},
		"no version":          {func(s *storetest.Snapshot) { s.Annotations["kots.io/kotsadm-image"] = "registry:5000/kotsadm" }, "it does not name the namespace and the version"},
	} {
		t.Run(name, func(t *testing.T) {
			s := storetest.ConsoleSnapshot("s1", takenAt)
			c.change(&s)
			all, err := velero.ListSnapshots(t.Context(), storetest.WriteSnapshots(t, s))
			testkit.Must(t, err)
			if len(all) != 1 || all[0].Name != "s1" || (c.want == "") != (all[0].Problem == "") || !strings.Contains(all[0].Problem, c.want) {
				t.Errorf("%+v", all)
			}
		})
	}
}

func TestListSnapshots_ReadsWhatARestoreDependsOn(t *testing.T) {
	newer := storetest.ConsoleSnapshot("s2", takenAt.Add(time.Hour))
	newer.Expires = takenAt.Add(720 * time.Hour)
	all, err := velero.ListSnapshots(t.Context(), storetest.WriteSnapshots(t, storetest.ConsoleSnapshot("s1", takenAt), newer))
	testkit.Must(t, err)
	if len(all) != 2 || all[0].Name != "s2" {
		t.Fatalf("%+v", all)
	}
	s := all[0]
	if s.KOTS != "1.131.2" || s.Kubernetes != "v1.33.8" || s.Namespace != "kotsadm" || s.Apps["my-app"] != "1.0.0" || s.Registry != "10.96.0.11:5000" ||
		!s.TakenAt.Equal(newer.TakenAt) || !s.Expires.Equal(newer.Expires) {
		t.Errorf("%+v", s)
	}
}

func TestRegistrySnapshot_PrefersTheOneThatBelongsToIt(t *testing.T) {
	failed := storetest.RegistrySnapshot("s1", takenAt)
	failed.Phase = "Failed"
	for name, c := range map[string]struct {
		all  []storetest.Snapshot
		want string
	}{
		"its own":          {[]storetest.Snapshot{storetest.RegistrySnapshot("s1", takenAt), storetest.RegistrySnapshot("s2", takenAt.Add(time.Hour))}, "s1-registry"},
		"the newest other": {[]storetest.Snapshot{storetest.RegistrySnapshot("s0", takenAt), storetest.RegistrySnapshot("s2", takenAt.Add(time.Hour))}, "s2-registry"},
		"its own failed":   {[]storetest.Snapshot{failed, storetest.RegistrySnapshot("s0", takenAt)}, "s0-registry"},
		"none":             {[]storetest.Snapshot{failed}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := velero.ListSnapshots(t.Context(), storetest.WriteSnapshots(t, c.all...))
			testkit.Must(t, err)
			if found, ok := velero.RegistrySnapshot(all, velero.Snapshot{Name: "s1"}); found.Name != c.want || ok != (c.want != "") {
				t.Errorf("%+v", found)
			}
		})
	}
}

// read returns the contents of a snapshot.
func read(t *testing.T, s storetest.Snapshot) (velero.Contents, error) {
	t.Helper()
	files := storetest.WriteSnapshots(t, s)
	all, err := velero.ListSnapshots(t.Context(), files)
	testkit.Must(t, err)
	return velero.ReadContents(t.Context(), files, all[0])
}

func TestReadContents_ReadsVolumesImagesAndThePasswordOfTheRegistry(t *testing.T) {
	c, err := read(t, storetest.ConsoleSnapshot("s1", takenAt))
	testkit.Must(t, err)
	if len(c.Volumes) != 2 || c.Volumes[0].String() != "kotsadm/db-0:data" || c.Bytes() != 21e6 || len(c.Missing) > 0 || c.RegistryPassword != "old password" {
		t.Errorf("%+v", c)
	}
	want := []velero.ContainerImage{{Resource: "pods", Namespace: "kotsadm", Name: "kotsadm-0", List: "initContainers", Container: "schemahero-plan", Ref: "docker.io/kotsadm/kotsadm-migrations:v1.131.2"},
		{Resource: "pods", Namespace: "kotsadm", Name: "kotsadm-0", List: "containers", Container: "kotsadm", Ref: "docker.io/kotsadm/kotsadm:v1.131.2"},
		{Resource: "statefulsets.apps", Namespace: "kotsadm", Name: "kotsadm", List: "containers", Container: "kotsadm", Ref: "docker.io/kotsadm/kotsadm:v1.131.2"}}
	if !slices.Equal(c.Images, want) {
		t.Errorf("%+v", c.Images)
	}
}

// mark lets the console's pod, which has the volumes backup and cache, mark names for backups.
func mark(s *storetest.Snapshot, names string) {
	pod := s.Objects["resources/pods/namespaces/kotsadm/kotsadm-0.json"].(map[string]any)
	pod["metadata"].(map[string]any)["annotations"] = map[string]any{"backup.velero.io/backup-volumes": names}
	pod["spec"].(map[string]any)["volumes"] = []any{map[string]any{"name": "backup"}, map[string]any{"name": "cache"}}
}

func TestReadContents_NamesSkippedVolumesAndRefusesDamage(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(s *storetest.Snapshot)
		missing []string
		damage  string
	}{
		"a skipped volume":          {change: func(s *storetest.Snapshot) { s.Volumes = s.Volumes[1:] }, missing: []string{"kotsadm/kotsadm-0:backup"}},
		"a space in the list":       {change: func(s *storetest.Snapshot) { mark(s, "backup, cache,") }, missing: []string{"kotsadm/kotsadm-0:cache"}},
		"a name of no volume":       {change: func(s *storetest.Snapshot) { mark(s, "backup,other, ,") }},
		"no file of volumes":        {change: func(s *storetest.Snapshot) { s.Without = []string{"-podvolumebackups.json.gz"} }, damage: "s1-podvolumebackups.json.gz"},
		"a volume that failed":      {change: func(s *storetest.Snapshot) { s.Volumes[1].Phase = "Failed" }, damage: "kotsadm/db-0:data"},
		"no data of volumes":        {change: func(s *storetest.Snapshot) { s.Without = []string{"kopia.repository"} }, damage: "kopia/kotsadm/kopia.repository"},
		"an archive that ends":      {change: func(s *storetest.Snapshot) { s.Replace = map[string][]byte{".tar.gz": {0x1f, 0x8b, 8, 0, 0, 0}} }, damage: "s1.tar.gz"},
		"an archive that is none":   {change: func(s *storetest.Snapshot) { s.Replace = map[string][]byte{".tar.gz": []byte("not packed at all")} }, damage: "s1.tar.gz"},
		"a list that is not packed": {change: func(s *storetest.Snapshot) { s.Replace = map[string][]byte{"backups.json.gz": []byte("[]........")} }, damage: "podvolumebackups"},
	} {
		t.Run(name, func(t *testing.T) {
			s := storetest.ConsoleSnapshot("s1", takenAt)
			c.change(&s)
			got, err := read(t, s)
			if c.damage != "" {
				if !errors.Is(err, velero.ErrDamaged) || !strings.Contains(err.Error(), c.damage) {
					t.Error(err)
				}
				return
			}
			if err != nil || !slices.Equal(got.Missing, c.missing) {
				t.Errorf("%v %v", got.Missing, err)
			}
		})
	}
}

func TestReplaceImages_UsesThoseOfTheBundle(t *testing.T) {
	c, err := read(t, storetest.ConsoleSnapshot("s1", takenAt))
	testkit.Must(t, err)
	if rules := velero.ReplaceImages(c.Images, []string{"docker.io/kotsadm/kotsadm:v1.131.2", "docker.io/other:1"}); len(rules) > 0 {
		t.Errorf("the same images: %+v", rules)
	}
	rules := velero.ReplaceImages(c.Images, []string{"docker.io/kotsadm/kotsadm:v1.132.0@sha256:1", "docker.io/kotsadm/kotsadm-migrations:v1.132.0"})
	if len(rules) != 2 || rules[0].On != (velero.ModifierConditions{GroupResource: "pods", Namespace: "kotsadm", Name: "kotsadm-0"}) ||
		rules[1].On != (velero.ModifierConditions{GroupResource: "statefulsets.apps", Namespace: "kotsadm", Name: "kotsadm"}) {
		t.Fatalf("%+v", rules)
	}
	const console = `"containers":[{"image":"docker.io/kotsadm/kotsadm:v1.132.0@sha256:1","name":"kotsadm"}]`
	for i, want := range []string{`{"spec":{` + console + `,"initContainers":[{"image":"docker.io/kotsadm/kotsadm-migrations:v1.132.0","name":"schemahero-plan"}]}}`,
		`{"spec":{"template":{"spec":{` + console + `}}}}`} {
		if patch, err := json.Marshal(rules[i].Patch); err != nil || string(patch) != want {
			t.Errorf("%s, %v, want %s", patch, err, want)
		}
	}
}

func FuzzReadContents(f *testing.F) {
	files := storetest.WriteSnapshots(f, storetest.ConsoleSnapshot("s1", takenAt))
	f.Add(files["backups/s1/velero-backup.json"], files["backups/s1/s1.tar.gz"], files["backups/s1/s1-podvolumebackups.json.gz"])
	f.Add([]byte("{}"), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, description, contents, volumes []byte) {
		files := storetest.Files{"backups/s1/velero-backup.json": description, "backups/s1/s1.tar.gz": contents, "backups/s1/s1-podvolumebackups.json.gz": volumes}
		all, err := velero.ListSnapshots(t.Context(), files)
		if err != nil || len(all) != 1 {
			t.Fatalf("%v %v", all, err)
		}
		_, _ = velero.ReadContents(t.Context(), files, all[0])
	})
}
