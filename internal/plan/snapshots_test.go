package plan

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/spec"
)

// veleroAddOn returns the add-on velero with an object store.
func veleroAddOn(t *testing.T, store spec.ObjectStore) addons.AddOn {
	t.Helper()
	in := &spec.Installer{}
	in.Spec.Network.PodCIDR, in.Spec.Network.ServiceCIDR = "10.244.0.0/16", "10.96.0.0/12"
	in.Spec.Velero = &spec.Velero{Version: "1.18.3", ObjectStore: store}
	parts, err := addons.Resolve(in, "/var/lib/plinth")
	if err != nil {
		t.Fatal(err)
	}
	return parts[0]
}

func TestAddOnSteps_PrepareTheObjectStore(t *testing.T) {
	for name, c := range map[string]struct {
		store spec.ObjectStore
		want  []string
	}{
		"built in": {spec.ObjectStore{Mode: "builtin"}, []string{"object-store", "velero", "snapshot-location"}},
		"a folder": {spec.ObjectStore{Folder: "/srv/snapshots"}, []string{"object-store", "velero", "snapshot-location"}},
		"none":     {spec.ObjectStore{Mode: "none"}, []string{"velero"}},
	} {
		t.Run(name, func(t *testing.T) {
			var ids []string
			for _, s := range (Cluster{AddOns: []addons.AddOn{veleroAddOn(t, c.store)}}).addOnSteps() {
				ids = append(ids, s.ID)
				for _, path := range s.Affects {
					if strings.HasPrefix(path, "/") {
						t.Errorf("%s changes %s, which a reset would take for Plinth's", s.ID, path)
					}
				}
			}
			if !slices.Equal(ids, c.want) {
				t.Errorf("steps %v, want %v", ids, c.want)
			}
		})
	}
}

// Velero finds the volumes of pods below kubelet's folder only.
func TestVelero_KnowsKubeletsFolder(t *testing.T) {
	if dir := veleroAddOn(t, spec.ObjectStore{}).Values["kubeletDir"]; dir != k0s.DataDir+"/kubelet" {
		t.Errorf("kubelet's folder is %v", dir)
	}
}

func TestEnsureFolder_LeavesAnExistingOne(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string) error
		mode os.FileMode
		want string
	}{
		"missing":  {func(string) error { return nil }, 0o700, ""},
		"existing": {func(path string) error { return os.MkdirAll(path, 0o750) }, 0o750, ""},
		"a file":   {func(path string) error { return os.WriteFile(path, nil, 0o600) }, 0, "is not a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, f := example(t)
			cluster.Host = f.Host()
			path := filepath.Join(f.Root, "srv/snapshots")
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			err := cluster.ensureFolder("/srv/snapshots")
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
				return
			}
			if info, statErr := os.Stat(path); err != nil || statErr != nil || info.Mode().Perm() != c.mode {
				t.Errorf("%v, %v, %v", info, err, statErr)
			}
		})
	}
}
