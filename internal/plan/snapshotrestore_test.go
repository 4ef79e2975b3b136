package plan

import (
	"slices"
	"testing"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/velero"
)

// completeCluster returns a cluster with all add-ons of Plinth.
func completeCluster(t *testing.T, store spec.ObjectStore) Cluster {
	t.Helper()
	c, f := example(t)
	in := &spec.Installer{}
	in.Spec.Network.PodCIDR, in.Spec.Network.ServiceCIDR = "10.244.0.0/16", "10.96.0.0/12"
	in.Spec.LocalPathStorage = &spec.AddOn{Version: "0.0.30"}
	in.Spec.Kotsadm = &spec.Kotsadm{Version: "1.131.2", ApplicationSlug: "my-app", Namespace: "kotsadm", UIBindPort: 8800}
	in.Spec.Registry = &spec.AddOn{Version: "3.1.2"}
	in.Spec.Velero = &spec.Velero{Version: "1.18.3", ObjectStore: store}
	parts, err := addons.Resolve(in, "/var/lib/plinth")
	if err != nil {
		t.Fatal(err)
	}
	c.Host, c.AddOns, c.Console.Namespace = f.Host(), parts, "kotsadm"
	return c
}

func TestRestoreSnapshot_RestoresBeforeWhatUsesTheData(t *testing.T) {
	external := &velero.Location{URL: "https://store:9000", Bucket: "b"}
	for name, c := range map[string]struct {
		store   spec.ObjectStore
		restore SnapshotRestore
		want    []string
	}{
		"the store of the cluster": {spec.ObjectStore{Folder: "/srv/snapshots"}, SnapshotRestore{RegistrySnapshot: "s1-registry"},
			[]string{"registry-trust", "object-store", "velero", "snapshot-location", "restore-find", "restore-registry", "registry", "restore-console", "console",
				"console-certificate", "console-proxy", "console-answers", "registry-announce", "restore-application"}},
		"no content of the registry": {spec.ObjectStore{Folder: "/srv/snapshots"}, SnapshotRestore{},
			[]string{"registry-trust", "object-store", "velero", "snapshot-location", "restore-find", "registry", "restore-console", "console",
				"console-certificate", "console-proxy", "console-answers", "registry-announce", "restore-application"}},
		"images from an application bundle": {spec.ObjectStore{Folder: "/srv/snapshots"}, SnapshotRestore{AppImages: AppImages{Bundle: "/a.airgap", Slug: "my-app", ID: "my-app 1.0.0"}},
			[]string{"registry-trust", "object-store", "velero", "snapshot-location", "restore-find", "registry", "restore-console", "console",
				"console-certificate", "console-proxy", "console-answers", "registry-announce", "restore-images", "restore-application"}},
		"the customer's store": {spec.ObjectStore{Mode: "none"}, SnapshotRestore{Location: external, RegistrySnapshot: "s1-registry", ReadOnly: true},
			[]string{"registry-trust", "restore-credentials", "velero", "restore-location", "restore-find", "restore-registry", "registry", "restore-console", "console",
				"console-certificate", "console-proxy", "console-answers", "registry-announce", "restore-application", "restore-writable"}},
		"the customer's store beside that of the cluster": {spec.ObjectStore{}, SnapshotRestore{Location: external},
			[]string{"registry-trust", "object-store", "restore-credentials", "velero", "restore-location", "restore-find", "registry", "restore-console", "console",
				"console-certificate", "console-proxy", "console-answers", "registry-announce", "restore-application"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.restore.Snapshot, c.restore.Apps = "s1", []string{"my-app"}
			cluster := completeCluster(t, c.store)
			var all, ids []string
			for _, s := range RestoreSnapshot(cluster, c.restore) {
				all = append(all, s.ID)
				if i := slices.Index(c.want, s.ID); i >= 0 {
					ids = append(ids, s.ID)
				}
			}
			if !slices.Equal(ids, c.want) {
				t.Errorf("steps %v\nwant  %v", ids, c.want)
			}
			var installed []string
			for _, s := range Install(cluster) {
				installed = append(installed, s.ID)
			}
			for _, id := range installed {
				if id != "application" && !slices.Contains(all, id) && (id != "snapshot-location" || c.restore.Location == nil) {
					t.Errorf("step %s of an install is missing", id)
				}
			}
			if slices.Contains(all, "application") {
				t.Error("an application is installed")
			}
		})
	}
}

func TestRestoreSnapshot_PutsTheStoreInTheFolder(t *testing.T) {
	cluster := completeCluster(t, spec.ObjectStore{})
	steps := RestoreSnapshot(cluster, SnapshotRestore{Snapshot: "s1", Folder: "/mnt/copy"})
	i := slices.IndexFunc(steps, func(s step.Step) bool { return s.ID == "object-store" })
	if i < 0 || !slices.Contains(steps[i].Affects, "folder /mnt/copy, which a reset leaves") {
		t.Errorf("step %d of %+v", i, steps)
	}
}
