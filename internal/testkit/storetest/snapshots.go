package storetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// Snapshot is what a snapshot of Velero contains.
type Snapshot struct {
	Name        string
	Phase       string // "" for Completed
	TakenAt     time.Time
	Expires     time.Time
	Annotations map[string]string
	Status      map[string]any    // more of its status
	Objects     map[string]any    // by path in the archive
	Volumes     []Volume          // with data
	Without     []string          // ends of names of files that are left out
	Replace     map[string][]byte // content of files, by the ends of their names
}

// Volume is the data of a volume.
type Volume struct {
	Namespace, Pod, Name, Phase string
	Bytes                       int64
}

// ConsoleSnapshot returns a full snapshot of the console my-app, with a volume of 20 MB and another of 1 MB.
func ConsoleSnapshot(name string, takenAt time.Time) Snapshot {
	return Snapshot{Name: name, TakenAt: takenAt,
		Annotations: map[string]string{"kots.io/instance": "true", "kots.io/kotsadm-image": "docker.io/kotsadm/kotsadm:v1.131.2", "kots.io/kotsadm-deploy-namespace": "kotsadm",
			"kots.io/apps-versions": `{"my-app":"1.0.0"}`, "kots.io/embedded-registry": "10.96.0.11:5000", "velero.io/source-cluster-k8s-gitversion": "v1.33.8"},
		Objects: map[string]any{
			"resources/pods/namespaces/kotsadm/kotsadm-0.json": map[string]any{"apiVersion": "v1", "kind": "Pod",
				"metadata": map[string]any{"name": "kotsadm-0", "namespace": "kotsadm", "labels": map[string]any{"kots.io/kotsadm": "true"},
					"annotations": map[string]any{"backup.velero.io/backup-volumes": "backup"}},
				"spec": map[string]any{"volumes": []any{map[string]any{"name": "backup"}}, "initContainers": []any{map[string]any{"name": "schemahero-plan", "image": "docker.io/kotsadm/kotsadm-migrations:v1.131.2"}},
					"containers": []any{map[string]any{"name": "kotsadm", "image": "docker.io/kotsadm/kotsadm:v1.131.2"}}},
				"status": map[string]any{"phase": "Running"}},
			"resources/pods/v1-preferredversion/namespaces/kotsadm/kotsadm-0.json": map[string]any{},
			"resources/statefulsets.apps/namespaces/kotsadm/kotsadm.json": map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet",
				"metadata": map[string]any{"name": "kotsadm", "namespace": "kotsadm", "labels": map[string]any{"kots.io/kotsadm": "true"}},
				"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
					"containers": []any{map[string]any{"name": "kotsadm", "image": "docker.io/kotsadm/kotsadm:v1.131.2"}}}}}},
			"resources/secrets/namespaces/kotsadm/my-app-registry.json": map[string]any{"apiVersion": "v1", "kind": "Secret",
				"metadata": map[string]any{"name": "my-app-registry", "namespace": "kotsadm"},
				"data":     map[string]any{".dockerconfigjson": []byte(`{"auths":{"10.96.0.11:5000":{"username":"kurl","password":"old password"}}}`)}},
		},
		Volumes: []Volume{{"kotsadm", "kotsadm-0", "backup", "Completed", 1e6}, {"kotsadm", "db-0", "data", "Completed", 20e6}}}
}

// RegistrySnapshot returns the snapshot with the content of the registry for the snapshot of.
func RegistrySnapshot(of string, takenAt time.Time) Snapshot {
	return Snapshot{Name: of + "-registry", TakenAt: takenAt, Annotations: map[string]string{"plinth.dev/registry-of": of},
		Volumes: []Volume{{"registry", "registry-1", "data", "Completed", 5e6}}}
}

// Files are the objects of a bucket, by key.
type Files map[string][]byte

// WriteSnapshots returns the files of snapshots, as Velero writes them.
func WriteSnapshots(t testing.TB, all ...Snapshot) Files {
	t.Helper()
	files := Files{}
	for _, s := range all {
		phase := s.Phase
		if phase == "" {
			phase = "Completed"
		}
		status := map[string]any{"phase": phase, "startTimestamp": s.TakenAt}
		if !s.Expires.IsZero() {
			status["expiration"] = s.Expires
		}
		maps.Copy(status, s.Status)
		dir := "backups/" + s.Name + "/"
		files.put(t, s, dir+"velero-backup.json", marshal(t, map[string]any{"metadata": map[string]any{"name": s.Name, "annotations": s.Annotations}, "status": status}))
		files.put(t, s, dir+s.Name+".tar.gz", zip(t, archive(t, s.Objects)))
		var volumes []any
		for _, v := range s.Volumes {
			volumes = append(volumes, map[string]any{"spec": map[string]any{"pod": map[string]any{"namespace": v.Namespace, "name": v.Pod}, "volume": v.Name},
				"status": map[string]any{"phase": v.Phase, "progress": map[string]any{"totalBytes": v.Bytes, "bytesDone": v.Bytes}}})
			files.put(t, s, "kopia/"+v.Namespace+"/kopia.repository", []byte("{}"))
		}
		files.put(t, s, dir+s.Name+"-podvolumebackups.json.gz", zip(t, marshal(t, volumes)))
	}
	return files
}

func (f Files) put(t testing.TB, s Snapshot, key string, content []byte) {
	t.Helper()
	if slices.ContainsFunc(s.Without, func(end string) bool { return strings.HasSuffix(key, end) }) {
		return
	}
	for end, other := range s.Replace {
		if strings.HasSuffix(key, end) {
			content = other
		}
	}
	f[key] = content
}

// Keys returns the keys below a prefix.
func (f Files) Keys(_ context.Context, prefix string) (keys []string, err error) {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// Open opens an object.
func (f Files) Open(_ context.Context, key string) (io.ReadCloser, error) {
	content, ok := f[key]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func zip(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func archive(t testing.TB, objects map[string]any) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		raw := marshal(t, objects[name])
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(raw))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(raw); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
