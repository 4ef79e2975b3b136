package velero

import (
	"encoding/base64"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/testkit"
)

const (
	locationPath    = "/apis/velero.io/v1/namespaces/velero/backupstoragelocations/default"
	credentialsPath = "/api/v1/namespaces/velero/secrets/cloud-credentials"
	claimPath       = "/api/v1/namespaces/velero/persistentvolumeclaims/object-store"
	volumePath      = "/api/v1/persistentvolumes/velero-object-store"
)

// newStore returns a store in a cluster whose Velero finds every location in phase.
func newStore(t *testing.T, phase string) (Store, *kubetest.Server) {
	t.Helper()
	s, c := kubetest.New(t)
	s.SetAdmit(func(obj map[string]any) {
		if obj["kind"] == "BackupStorageLocation" {
			obj["status"] = map[string]any{"phase": phase, "message": "no such bucket"}
		}
		kubetest.MarkReady(obj)
	})
	return Store{Kube: c, Namespace: "velero", IP: "10.96.0.12", Domain: "cluster.local", Node: "n1"}, s
}

// field returns the value at a path of keys in an object.
func field(obj map[string]any, keys ...string) any {
	var at any = obj
	for _, key := range keys {
		m, _ := at.(map[string]any)
		at = m[key]
	}
	return at
}

// secretText returns the value of a key of a stored secret.
func secretText(t *testing.T, s *kubetest.Server, path, key string) string {
	t.Helper()
	text, _ := field(s.Object(path), "data", key).(string)
	b, err := base64.StdEncoding.DecodeString(text)
	testkit.Must(t, err)
	return string(b)
}

func TestPrepare_WritesNothingOnSecondRun(t *testing.T) {
	st, s := newStore(t, "Available")
	now := time.Now()
	for _, want := range []string{"the object store has no certificate", ""} {
		if reason, err := st.PrepareNeeded(t.Context(), now); err != nil || reason != want {
			t.Errorf("needed because %q, want %q (%v)", reason, want, err)
		}
		testkit.Must(t, st.Prepare(t.Context(), now))
	}
	first := secretText(t, s, "/api/v1/namespaces/velero/secrets/object-store", "secret-access-key")
	s.Writes()
	testkit.Must(t, st.Prepare(t.Context(), now))
	if got := s.Writes(); len(got) != 0 {
		t.Errorf("the third run wrote %q", got)
	}
	if !strings.Contains(secretText(t, s, credentialsPath, "cloud"), first) {
		t.Error("Velero starts without credentials")
	}
	if len(first) < 40 || s.Object(volumePath) != nil || field(s.Object(claimPath), "spec", "volumeName") != nil {
		t.Errorf("secret of %d letters, claim %v", len(first), s.Object(claimPath))
	}
}

func TestPrepare_LeavesCredentialsOfAUsersStore(t *testing.T) {
	st, s := newStore(t, "Available")
	s.Put(locationPath, map[string]any{"apiVersion": "velero.io/v1", "kind": "BackupStorageLocation", "metadata": map[string]any{"name": "default", "namespace": "velero"}})
	testkit.Must(t, st.Prepare(t.Context(), time.Now()))
	if s.Object(credentialsPath) != nil {
		t.Error("wrote the credentials of another store")
	}
}

func TestPrepareNeeded_NamesWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct{ path, want string }{
		"certificate": {"/api/v1/namespaces/velero/secrets/object-store-tls", "has no certificate"},
		"credentials": {"/api/v1/namespaces/velero/secrets/object-store", "has no credentials"},
		"volume":      {claimPath, "has no volume"},
	} {
		t.Run(name, func(t *testing.T) {
			st, s := newStore(t, "Available")
			now := time.Now()
			testkit.Must(t, st.Prepare(t.Context(), now))
			s.Remove(c.path)
			if reason, err := st.PrepareNeeded(t.Context(), now); err != nil || !strings.Contains(reason, c.want) {
				t.Errorf("%q, %v", reason, err)
			}
			testkit.Must(t, st.Prepare(t.Context(), now))
			if reason, err := st.PrepareNeeded(t.Context(), now); err != nil || reason != "" {
				t.Errorf("after Prepare: %q, %v", reason, err)
			}
		})
	}
}

func TestPrepare_KeepsFilesInFolderOfHost(t *testing.T) {
	st, s := newStore(t, "Available")
	st.Folder = "/srv/snapshots"
	testkit.Must(t, st.Prepare(t.Context(), time.Now()))
	volume := s.Object(volumePath)
	if field(volume, "spec", "local", "path") != "/srv/snapshots" || field(volume, "spec", "persistentVolumeReclaimPolicy") != "Retain" ||
		field(volume, "spec", "claimRef", "name") != "object-store" {
		t.Errorf("volume %v", volume)
	}
	if claim := s.Object(claimPath); field(claim, "spec", "volumeName") != "velero-object-store" || field(claim, "spec", "storageClassName") != "" {
		t.Errorf("claim %v", claim)
	}
	node, err := kube.PVCNode(t.Context(), st.Kube, "velero", "object-store")
	if err != nil || node != "n1" {
		t.Errorf("the files are on node %q, %v", node, err)
	}
}

func TestEnsureLocation_WritesWhatTheConsoleReads(t *testing.T) {
	st, s := newStore(t, "Available")
	if err := st.EnsureLocation(t.Context(), kube.Wait{Timeout: time.Second}); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("before Prepare: %v", err)
	}
	testkit.Must(t, st.Prepare(t.Context(), time.Now()))
	if reason, err := st.LocationNeeded(t.Context()); err != nil || reason != "snapshots have no location" {
		t.Errorf("%q, %v", reason, err)
	}
	testkit.Must(t, st.EnsureLocation(t.Context(), kube.Wait{Timeout: time.Second}))
	location := s.Object(locationPath)
	for want, got := range map[string]any{
		"aws": field(location, "spec", "provider"), "https://10.96.0.12": field(location, "spec", "config", "s3Url"),
		"true": field(location, "spec", "config", "s3ForcePathStyle"), "snapshots": field(location, "spec", "objectStorage", "bucket"),
		"us-east-1": field(location, "spec", "config", "region"),
	} {
		if got != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	if field(location, "spec", "default") != true {
		t.Error("not the default location")
	}
	ca, err := base64.StdEncoding.DecodeString(field(location, "spec", "objectStorage", "caCert").(string))
	if err != nil || !strings.HasPrefix(string(ca), "-----BEGIN CERTIFICATE-----") {
		t.Errorf("authority %q, %v", ca, err)
	}
	cloud := secretText(t, s, credentialsPath, "cloud")
	want := "[default]\naws_access_key_id = " + secretText(t, s, "/api/v1/namespaces/velero/secrets/object-store", "access-key-id") +
		"\naws_secret_access_key = " + secretText(t, s, "/api/v1/namespaces/velero/secrets/object-store", "secret-access-key") + "\n"
	if cloud != want {
		t.Error("the credentials are not those of the store")
	}
	if reason, err := st.LocationNeeded(t.Context()); err != nil || reason != "" {
		t.Errorf("a second time: %q, %v", reason, err)
	}
}

func TestEnsureLocation_ReportsVelerosWords(t *testing.T) {
	st, _ := newStore(t, "Unavailable")
	testkit.Must(t, st.Prepare(t.Context(), time.Now()))
	err := st.EnsureLocation(t.Context(), kube.Wait{Timeout: 10 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "the location of snapshots is Unavailable: no such bucket") {
		t.Errorf("%v", err)
	}
	for _, secret := range []string{"aws_secret_access_key", "secret-access-key"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error has credentials: %v", err)
		}
	}
}

func TestLocationNeeded_LeavesTheStoreOfAUser(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *kubetest.Server, location map[string]any)
		want   string
	}{
		"as Plinth wrote it": {func(*kubetest.Server, map[string]any) {}, ""},
		"another store": {func(s *kubetest.Server, l map[string]any) {
			field(l, "spec").(map[string]any)["config"] = map[string]any{"region": "eu-west-1", "s3Url": "https://s3.example.com"}
			s.Remove(credentialsPath)
		}, ""},
		"Amazon's":                   {func(_ *kubetest.Server, l map[string]any) { delete(field(l, "spec").(map[string]any), "config") }, ""},
		"this store, no credentials": {func(s *kubetest.Server, _ map[string]any) { s.Remove(credentialsPath) }, "other credentials"},
		"this store, no authority": {func(_ *kubetest.Server, l map[string]any) {
			delete(field(l, "spec", "objectStorage").(map[string]any), "caCert")
		}, "another authority"},
		"the location was deleted": {func(s *kubetest.Server, _ map[string]any) { s.Remove(locationPath) }, "no location"},
	} {
		t.Run(name, func(t *testing.T) {
			st, s := newStore(t, "Available")
			testkit.Must(t, st.Prepare(t.Context(), time.Now()))
			testkit.Must(t, st.EnsureLocation(t.Context(), kube.Wait{Timeout: time.Second}))
			location := maps.Clone(s.Object(locationPath))
			s.Put(locationPath, location)
			c.change(s, location)
			reason, err := st.LocationNeeded(t.Context())
			if err != nil || c.want == "" && reason != "" || !strings.Contains(reason, c.want) {
				t.Errorf("%q, want %q (%v)", reason, c.want, err)
			}
		})
	}
}

func TestLocationProblem_IsEmptyWithoutLocation(t *testing.T) {
	st, _ := newStore(t, "")
	if reason, err := LocationProblem(t.Context(), st.Kube, "velero"); reason != "" || err != nil {
		t.Errorf("%q, %v", reason, err)
	}
	testkit.Must(t, st.Prepare(t.Context(), time.Now()))
	_ = st.EnsureLocation(t.Context(), kube.Wait{Timeout: 10 * time.Millisecond})
	if reason, err := LocationProblem(t.Context(), st.Kube, "velero"); !strings.Contains(reason, "not checked") || err != nil {
		t.Errorf("%q, %v", reason, err)
	}
}
