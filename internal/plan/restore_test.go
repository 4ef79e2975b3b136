package plan

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

func TestRestore_MatchesGolden(t *testing.T) {
	c, _ := example(t)
	for name, r := range map[string]Restoration{
		"restore-backup":    {Source: "sha256:1", Open: func(context.Context) (io.ReadCloser, error) { return nil, nil }},
		"restore-this-node": {Source: ThisNode, RemoveLost: true},
	} {
		t.Run(name, func(t *testing.T) { goldenPlan(t, "testdata/"+name+".golden", c, Restore(c, r)) })
	}
}

func TestRestoreOnNewHost_IsInstallWithTheKeysAndDataOfTheBackup(t *testing.T) {
	c, _ := example(t)
	c.Console.App = nil
	steps := RestoreOnNewHost(c, Restoration{Source: "sha256:1", Open: func(context.Context) (io.ReadCloser, error) { return nil, nil }})
	goldenPlan(t, "testdata/restore-new-host.golden", c, steps)
	ids := func(steps []step.Step) (all []string) {
		for _, s := range steps {
			if !strings.HasPrefix(s.ID, "restore-") && s.ID != trustID {
				all = append(all, s.ID)
			}
		}
		return all
	}
	if got, want := ids(steps), ids(Install(c)); !slices.Equal(got, want) {
		t.Errorf("%q, an install has %q", got, want)
	}
	// The preflights of a run after a killed one take every other path for that of a foreign k0s.
	i := slices.IndexFunc(steps, func(s step.Step) bool {
		return slices.ContainsFunc(s.Affects, func(p string) bool { return strings.HasPrefix(p, k0s.DataDir) })
	})
	if s := steps[i]; !slices.Contains(s.Affects, k0s.DataDir) {
		t.Errorf("step %s creates %s, and affects only %q", s.ID, k0s.DataDir, s.Affects)
	}
}

// newLostCluster returns the API server of a restored cluster with these lost controllers, as this host sees it: its own
// name is n1, and it has an identity.
func newLostCluster(t *testing.T, lost ...string) (*kubetest.Server, *kube.Client, lostControllers, *[]string) {
	t.Helper()
	s, client := kubetest.New(t)
	warned := new([]string)
	f := hosttest.New(t)
	c := Cluster{Host: f.Host(), DataDir: "/var/lib/plinth", NodeName: "n1", Now: time.Now, Console: Console{Namespace: "kotsadm"},
		K0s: k0s.Service{Host: f.Host(), Settings: k0s.Settings{Address: "10.0.0.9"}}, Warn: func(text string) { *warned = append(*warned, text) }}
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{"/etc/machine-id": "new"})
	testkit.Must(t, clusterIdentity{c}.create())
	kubetest.RecordNodes(t, client, kube.NodeRecord{Node: "w1", UID: "uid-w1", Role: token.Worker, Joined: true})
	for _, name := range lost {
		kubetest.RecordNodes(t, client, kube.NodeRecord{Node: name, UID: "uid-" + name, Role: token.Controller, Joined: name != "learner"})
		s.Put("/api/v1/nodes/"+name, map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name}})
	}
	return s, client, lostControllers{c}, warned
}

func TestLostControllers_AreAllThatTheBackupKnows(t *testing.T) {
	s, client, l, warned := newLostCluster(t, "n1", "n2", "learner")
	volume := func(claim, node string) {
		s.Put("/api/v1/persistentvolumes/pv-"+claim, map[string]any{"metadata": map[string]any{"name": "pv-" + claim},
			"spec": map[string]any{"claimRef": map[string]any{"namespace": "kotsadm", "name": claim, "uid": "1"}, "nodeAffinity": map[string]any{"required": map[string]any{
				"nodeSelectorTerms": []any{map[string]any{"matchExpressions": []any{map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{node}}}}}}}}})
		s.Put("/api/v1/namespaces/kotsadm/persistentvolumeclaims/"+claim, map[string]any{"metadata": map[string]any{"name": claim, "uid": "1"}, "spec": map[string]any{"volumeName": "pv-" + claim}})
	}
	s.Put("/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm-rqlite", map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": "kotsadm-rqlite",
		"namespace": "kotsadm"}, "spec": map[string]any{"replicas": 3, "volumeClaimTemplates": []any{map[string]any{"metadata": map[string]any{"name": "kotsadm-rqlite"}}}}})
	volume("kotsadm-rqlite-kotsadm-rqlite-0", "n1")
	volume("uploads", "n2")
	volume("cache", "w1")
	names, err := l.namesIn(t.Context(), client)
	if err != nil || !slices.Equal(names, []string{"learner", "n1", "n2"}) {
		t.Fatalf("%v %v", names, err)
	}
	for _, name := range append(names, names...) { // a killed run repeats it
		testkit.Must(t, l.removeFrom(t.Context(), client, name))
	}
	if names, err = l.namesIn(t.Context(), client); err != nil || len(names) != 0 {
		t.Errorf("still lost: %v %v", names, err)
	}
	if s.Object("/api/v1/nodes/n1") == nil || s.Object("/api/v1/nodes/n2") != nil {
		t.Error("the node of this name must stay, and that of another be removed")
	}
	if s.Object("/api/v1/persistentvolumes/pv-kotsadm-rqlite-kotsadm-rqlite-0") != nil || s.Object("/api/v1/persistentvolumes/pv-uploads") == nil ||
		s.Object("/api/v1/persistentvolumes/pv-cache") == nil {
		t.Error("only volumes that something creates again are released")
	}
	if n, err := kots.DatastoreReplicas(t.Context(), client, "kotsadm"); n != 1 || err != nil {
		t.Errorf("%d replicas of the console's data, %v", n, err)
	}
	all := strings.Join(*warned, "\n")
	for _, want := range []string{"claim kotsadm/kotsadm-rqlite-kotsadm-rqlite-0 was on the lost controller n1: its data is lost, and an empty volume replaces it",
		"claim kotsadm/uploads was on the lost controller n2: its data is lost; its pods wait"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in %s", want, all)
		}
	}
	if note, noted, err := client.RemovedNode(t.Context(), "uid-n1"); err != nil || !noted || note.By != "a restore on n1" {
		t.Errorf("%+v %v %v", note, noted, err)
	}
	// The record of this host itself is not that of a lost controller.
	testkit.Must(t, clusterIdentity(l).applyPolicies(t.Context(), client))
	if names, err = l.namesIn(t.Context(), client); err != nil || len(names) != 0 {
		t.Errorf("this host is lost: %v %v", names, err)
	}
}

func TestLostVolume_SaysWhatIsLeft(t *testing.T) {
	for name, c := range map[string]struct {
		claim kube.PVC
		files volumeFiles
		want  string // its beginning; "" for no message
	}{
		"nothing": {kube.PVC{Namespace: "a", Name: "b", Node: "n1", Path: "/v"}, volumeFiles{},
			"the volume of claim a/b was on the lost controller n1: its data is lost; its pods wait until you delete the claim and create it again"},
		"nothing, of a StatefulSet": {kube.PVC{Namespace: "a", Name: "b", Node: "n1", Path: "/v", Recreated: true}, volumeFiles{},
			"the volume of claim a/b was on the lost controller n1: its data is lost, and an empty volume replaces it"},
		"its files": {kube.PVC{Namespace: "a", Name: "b", Node: "n1", Path: "/v", Recreated: true}, volumeFiles{here: true},
			"the volume of claim a/b was on the lost controller n1: its files are in /v on this host, which nothing uses any more, and an empty volume replaces it"},
		"the folder of the object store": {kube.PVC{Namespace: "velero", Name: "object-store", Node: "n1", Path: "/srv/s", Recreated: true}, volumeFiles{here: true, store: true}, ""},
		"an object store without it": {kube.PVC{Namespace: "velero", Name: "object-store", Node: "n1", Path: "/srv/s", Recreated: true}, volumeFiles{store: true},
			"the snapshots in /srv/s of the lost controller n1 are not on this host: the object store is empty. If a share or a disk has them, mount it at /srv/s, "},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lostVolume(c.claim, c.files); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestRestoreExplainSpace_NamesTheBytes(t *testing.T) {
	o := restore{Restoration: Restoration{Bytes: 1000}, dir: "/var/lib/plinth/restore"}
	full := &fs.PathError{Op: "write", Path: "/var/lib/plinth/restore/etcd.db", Err: host.ErrNoSpace}
	if err, want := o.explainSpace(full), "write /var/lib/plinth/restore/etcd.db: no space left on device: 2000 bytes are needed in /var/lib/plinth/restore, and half of it in "+k0s.EtcdDir; err.Error() != want || !errors.Is(err, host.ErrNoSpace) {
		t.Errorf("%v, want %q", err, want)
	}
	if err := o.explainSpace(io.ErrUnexpectedEOF); !errors.Is(err, io.ErrUnexpectedEOF) || err.Error() != io.ErrUnexpectedEOF.Error() {
		t.Error(err)
	}
}

func TestFindFiles_LooksForTheFolderOnThisHost(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{"/srv/s/objects/snapshots/backups/s1/velero-backup.json": "{}", "/v/kept/file": "x"})
	testkit.Must(t, f.Host().MkdirAll("/v/empty", 0o700))
	store := addons.AddOn{Name: veleroName, Namespace: "velero", Values: map[string]any{"objectStore": map[string]any{"enabled": true, "folder": "/srv/s"}}}
	l := lostControllers{Cluster{Host: f.Host(), AddOns: []addons.AddOn{store}}}
	for name, c := range map[string]struct {
		claim kube.PVC
		want  volumeFiles
	}{
		"the store's":         {kube.PVC{Namespace: "velero", Name: "object-store", Path: "/srv/s"}, volumeFiles{here: true, store: true}},
		"an earlier store's":  {kube.PVC{Namespace: "velero", Name: "object-store", Path: "/srv/other"}, volumeFiles{}},
		"of the provisioner":  {kube.PVC{Namespace: "a", Name: "b", Path: "/v/kept"}, volumeFiles{here: true}},
		"an empty folder":     {kube.PVC{Namespace: "a", Name: "b", Path: "/v/empty"}, volumeFiles{}},
		"no folder of a node": {kube.PVC{Namespace: "a", Name: "b"}, volumeFiles{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := l.findFiles(c.claim); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestNotReadyAddOns_NamesTheCulprit(t *testing.T) {
	s, client := kubetest.New(t)
	pod := func(namespace, name, node string, ready bool) {
		status := "False"
		if ready {
			status = "True"
		}
		s.Put("/api/v1/namespaces/"+namespace+"/pods/"+name, map[string]any{"metadata": map[string]any{"name": name, "namespace": namespace}, "spec": map[string]any{"nodeName": node},
			"status": map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": status}}}})
	}
	all := []addons.AddOn{{Name: "registry", Title: "Image registry", Namespace: "registry"}, {Name: veleroName, Title: "Velero", Namespace: "velero"}}
	pod("registry", "registry-1", "n1", true)
	pod("velero", "velero-1", "n1", true)
	pod("velero", "node-agent-2", "n2", false) // of a lost node
	if why, err := notReadyAddOns(t.Context(), client.IgnoringNodes("n2"), all); err != nil || why != "" {
		t.Errorf("%q %v", why, err)
	}
	pod("velero", "velero-1", "n1", false)
	why, err := notReadyAddOns(t.Context(), client.IgnoringNodes("n2"), all)
	if err != nil || !strings.HasPrefix(why, "Velero: ") || !strings.Contains(why, "pod velero-1") {
		t.Errorf("%q %v", why, err)
	}
}

func TestLostMembers_AreTheOtherControllers(t *testing.T) {
	s, client := kubetest.New(t)
	for name, role := range map[string]string{"n1": token.Controller, "n2": token.Controller, "n3": token.Controller, "w1": token.Worker} {
		kubetest.RecordNodes(t, client, kube.NodeRecord{Node: name, UID: "uid-" + name, Role: role, Joined: true})
		s.Put("/api/v1/nodes/"+name, map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name}})
	}
	l := lostMembers{"n1", func(context.Context) (*kube.Client, error) { return client, nil }}
	names, err := l.Names(t.Context())
	if err != nil || !slices.Equal(names, []string{"n2", "n3"}) {
		t.Fatalf("%v %v", names, err)
	}
	for range 2 { // a killed run repeats it
		testkit.Must(t, l.Remove(t.Context(), "n2"))
	}
	names, err = l.Names(t.Context())
	nodes, err2 := client.Nodes(t.Context())
	testkit.Must(t, err, err2)
	if !slices.Equal(names, []string{"n3"}) || len(nodes) != 3 ||
		slices.ContainsFunc(nodes, func(n kube.Node) bool { return n.Name == "n2" }) {
		t.Errorf("%v, nodes %+v", names, nodes)
	}
	if note, noted, err := client.RemovedNode(t.Context(), "uid-n2"); err != nil || !noted || note.By != "an administrator on n1" {
		t.Errorf("%+v %v %v", note, noted, err)
	}
}

func TestDeletePodsOfAbsentNodes_WaitsUntilTheNodeIsNotReady(t *testing.T) {
	s, client := kubetest.New(t)
	const pod = "/api/v1/namespaces/kube-system/pods/coredns"
	s.Put(pod, map[string]any{"metadata": map[string]any{"namespace": "kube-system", "name": "coredns"}})
	node := func(ready string) {
		s.Put("/api/v1/nodes/w", map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": "w"},
			"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready}}}})
	}
	for _, tt := range []struct {
		ready, reason string
		kept          bool
	}{
		{"True", "node w does not report, and Kubernetes has not noticed it yet", true},
		{"Unknown", "replacing kube-system/coredns", false},
	} {
		t.Run("Ready is "+tt.ready, func(t *testing.T) {
			node(tt.ready)
			reason, err := deletePodsOfAbsentNodes(t.Context(), client, []kube.NodePod{{Namespace: "kube-system", Name: "coredns", Node: "w"}})
			if err != nil || reason != tt.reason || (s.Object(pod) != nil) != tt.kept {
				t.Errorf("%q, %v, and the pod is %v", reason, err, s.Object(pod))
			}
		})
	}
}
