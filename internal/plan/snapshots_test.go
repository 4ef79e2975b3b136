package plan

import (
	"errors"
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
		"a mount":  {func(path string) error { return os.MkdirAll(path, 0o755) }, 0o755, ""},
		"a file":   {func(path string) error { return os.WriteFile(path, nil, 0o600) }, 0, "is not a folder"},
		"writable for all": {func(path string) error { return errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, 0o777)) }, 0,
			"all users can write to /srv/snapshots (mode 0777), and snapshots contain secrets: run sudo chmod o-w /srv/snapshots,"},
		"writable for all, like /tmp": {func(path string) error {
			return errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, 0o777|os.ModeSticky))
		}, 0,
			"sudo chmod o-w /srv/snapshots"},
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

// Every local user could read the secrets in what an earlier store has left in a folder that all can enter.
func TestEnsureFolder_HidesAnEarlierStore(t *testing.T) {
	for name, c := range map[string]struct{ have, want os.FileMode }{
		"of an earlier version":   {0o775 | os.ModeSetgid, 0o770 | os.ModeSetgid},
		"copied by root":          {0o755, 0o750},
		"of this version":         {0o700, 0o700},
		"of this version, by k8s": {0o770 | os.ModeSetgid, 0o770 | os.ModeSetgid},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, f := example(t)
			cluster.Host = f.Host()
			root := filepath.Join(f.Root, "srv/snapshots")
			for _, dir := range []string{"objects", "metadata"} {
				if err := errors.Join(os.MkdirAll(filepath.Join(root, dir), 0o755), os.Chmod(filepath.Join(root, dir), c.have)); err != nil {
					t.Fatal(err)
				}
			}
			if err := cluster.ensureFolder("/srv/snapshots"); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{"objects", "metadata"} {
				if info, err := os.Stat(filepath.Join(root, dir)); err != nil || info.Mode()&^os.ModeDir != c.want {
					t.Errorf("%s: %v, %v, want %v", dir, info.Mode(), err, c.want)
				}
			}
		})
	}
}
