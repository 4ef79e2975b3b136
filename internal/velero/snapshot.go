package velero

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Objects are the objects of a bucket in which Velero keeps snapshots, or those below a prefix. Keys are
// relative to it.
type Objects interface {
	// Keys returns the keys of all objects below a prefix, which is "" or ends with a slash.
	Keys(ctx context.Context, prefix string) ([]string, error)
	// Open opens an object. The error is fs.ErrNotExist if there is none.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
}

// Files of a snapshot below backupsPrefix (Velero 1.18.3, pkg/persistence/object_store_layout.go). The description is
// written before the others. Velero writes the list of volumes also for a snapshot without any (pkg/controller/backup_controller.go:
// persistBackup), and restores none if it is missing.
const (
	backupsPrefix   = "backups/"
	descriptionFile = "velero-backup.json"
	contentsSuffix  = ".tar.gz"
	volumesSuffix   = "-podvolumebackups.json.gz"
)

// phaseCompleted is the phase of a snapshot, of a volume in it and of a restore without errors.
const phaseCompleted = "Completed"

// Annotations of a snapshot (KOTS 1.131.2, pkg/kotsadmsnapshot; Velero 1.18.3, pkg/apis/velero/v1/labels_annotations.go).
const (
	instanceAnnotation   = "kots.io/instance"
	imageAnnotation      = "kots.io/kotsadm-image"
	namespaceAnnotation  = "kots.io/kotsadm-deploy-namespace"
	versionsAnnotation   = "kots.io/apps-versions"
	registryAnnotation   = "kots.io/embedded-registry"
	appAnnotation        = "kots.io/app-id"
	typeAnnotation       = "replicated.com/backup-type"
	kubernetesAnnotation = "velero.io/source-cluster-k8s-gitversion"
	// RegistryOfAnnotation is the annotation of a snapshot with the content of the built-in registry. Its value is the name
	// of the snapshot of the console to which it belongs.
	RegistryOfAnnotation = "plinth.dev/registry-of"
)

// Snapshot is a snapshot in a bucket, as Velero describes it.
type Snapshot struct {
	Name       string
	Phase      string
	TakenAt    time.Time // when Velero started it
	Expires    time.Time // when Velero may delete it; zero for never
	Instance   bool      // it is a full one: of the console and its applications
	Namespace  string    // of the console
	Apps       map[string]string
	KOTS       string // version of the console, without a v
	Kubernetes string // version of the cluster, such as v1.33.8
	Registry   string // host and port of the built-in registry; "" for none
	RegistryOf string // name of the snapshot of which this one has the registry's content; "" for none
	Problem    string // why it cannot be restored; "" if nothing is known
}

// description is the part of velero-backup.json that is read.
type description struct {
	Metadata struct {
		Name        string            `json:"name"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Status struct {
		Phase          string    `json:"phase"`
		StartTimestamp time.Time `json:"startTimestamp"`
		Expiration     time.Time `json:"expiration"`
		Errors         int       `json:"errors"`
		FailureReason  string    `json:"failureReason"`
	} `json:"status"`
}

// Limits of what is read of a snapshot, in bytes, so that a damaged or malicious one cannot exhaust the memory.
const (
	maxDescription = 4 << 20
	maxVolumes     = 64 << 20
	maxObject      = 4 << 20 // etcd accepts 1.5 MiB
	maxContents    = 4 << 30 // of all objects, unpacked
)

// ListSnapshots returns the snapshots in a bucket, the newest first. One that cannot be restored has a Problem.
func ListSnapshots(ctx context.Context, b Objects) ([]Snapshot, error) {
	keys, err := b.Keys(ctx, backupsPrefix)
	if err != nil {
		return nil, err
	}
	files := map[string][]string{}
	for _, key := range keys {
		if name, file, ok := strings.Cut(strings.TrimPrefix(key, backupsPrefix), "/"); ok {
			files[name] = append(files[name], file)
		}
	}
	var all []Snapshot
	for _, name := range slices.Sorted(maps.Keys(files)) {
		s := Snapshot{Name: name, Problem: "it is not complete: it has no " + descriptionFile}
		if slices.Contains(files[name], descriptionFile) {
			raw, err := readObject(ctx, b, backupsPrefix+name+"/"+descriptionFile, maxDescription)
			if err != nil && !errors.Is(err, errTooLarge) {
				return nil, err
			}
			s = parseSnapshot(name, raw, err, files[name])
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(x, y Snapshot) int { return y.TakenAt.Compare(x.TakenAt) })
	return all, nil
}

// parseSnapshot returns the snapshot name with the description raw, which could not be read if err is set, and with files.
func parseSnapshot(name string, raw []byte, err error, files []string) Snapshot {
	s := Snapshot{Name: name}
	var d description
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	if err == nil && d.Metadata.Name != name {
		err = fmt.Errorf("it is that of %q", d.Metadata.Name)
	}
	if err != nil {
		s.Problem = "its description cannot be read: " + err.Error()
		return s
	}
	a := d.Metadata.Annotations
	s.Phase, s.TakenAt, s.Expires = d.Status.Phase, d.Status.StartTimestamp, d.Status.Expiration
	s.Instance, s.Namespace, s.Registry, s.RegistryOf = a[instanceAnnotation] == "true", a[namespaceAnnotation], a[registryAnnotation], a[RegistryOfAnnotation]
	s.KOTS, s.Kubernetes = imageTag(a[imageAnnotation]), a[kubernetesAnnotation]
	_ = json.Unmarshal([]byte(a[versionsAnnotation]), &s.Apps) // without it, Apps is empty
	missing := missingFiles(name, files)
	switch {
	case s.Phase == "PartiallyFailed" || strings.HasPrefix(s.Phase, "Failed"):
		s.Problem = strings.TrimSuffix(fmt.Sprintf("it failed: %s with %d errors; %s", s.Phase, d.Status.Errors, d.Status.FailureReason), "; ")
	case s.Phase != phaseCompleted:
		s.Problem = fmt.Sprintf("it is not complete: its phase is %q", s.Phase)
	case missing != "":
		s.Problem = "it is not complete: " + missing + " is missing"
	case s.RegistryOf != "":
		s.Problem = "it has only the content of the registry, for the snapshot " + s.RegistryOf
	case !s.Instance && a[typeAnnotation] != "":
		s.Problem = "it was made by Replicated Embedded Cluster"
	case !s.Instance && a[appAnnotation] != "":
		s.Problem = "it is a partial one: it has the application without the console"
	case !s.Instance:
		s.Problem = "it is not a full snapshot of a KOTS console"
	case s.Namespace == "" || s.KOTS == "":
		s.Problem = "it does not name the namespace and the version of its console"
	}
	return s
}

// missingFiles returns the files that the snapshot name must have and that are not among files, in words; "" for none.
func missingFiles(name string, files []string) string {
	var missing []string
	for _, f := range []struct{ suffix, content string }{{contentsSuffix, "its objects"}, {volumesSuffix, "the list of its volumes"}} {
		if !slices.Contains(files, name+f.suffix) {
			missing = append(missing, name+f.suffix+" with "+f.content)
		}
	}
	return strings.Join(missing, " and ")
}

// imageTag returns the tag of an image reference without its v, "" for none.
func imageTag(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") {
		return strings.TrimPrefix(ref[i+1:], "v")
	}
	return ""
}

// RegistrySnapshot returns which of the snapshots has the content of the registry for s: the one that belongs to it or
// else the newest, because images are added more often than removed. ok is false if there is none.
func RegistrySnapshot(all []Snapshot, s Snapshot) (found Snapshot, ok bool) {
	for _, x := range all { // the newest first
		switch {
		case x.RegistryOf == "" || x.Phase != phaseCompleted:
		case x.RegistryOf == s.Name:
			return x, true
		case !ok:
			found, ok = x, true
		}
	}
	return found, ok
}

// errTooLarge is the error of an object that has more bytes than expected.
var errTooLarge = errors.New("it is too large")

// readObject returns the content of an object.
func readObject(ctx context.Context, b Objects, key string, limit int64) ([]byte, error) {
	r, err := b.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	raw, err := readLimited(r, limit)
	return raw, errors.Join(err, r.Close())
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(raw)) > limit {
		return nil, errTooLarge
	}
	return raw, err
}

// VolumeData is the data of a volume of a pod in a snapshot.
type VolumeData struct {
	Namespace, Pod, Name string
	Bytes                int64
}

// String returns the volume in messages.
func (v VolumeData) String() string { return v.Namespace + "/" + v.Pod + ":" + v.Name }

// checkRepositories returns an error if a repository with the data of volumes is missing: a folder that was copied in part.
func checkRepositories(ctx context.Context, b Objects, volumes []VolumeData) error {
	checked := map[string]bool{}
	for _, v := range volumes {
		if checked[v.Namespace] {
			continue
		}
		checked[v.Namespace] = true
		key := path.Join("kopia", v.Namespace, "kopia.repository") // Velero 1.18.3, and kopia, repo/format/format_blob.go
		r, err := b.Open(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s with the data of volumes is missing", ErrDamaged, key)
		}
		if err != nil {
			return err
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}
