// Package velero configures the Velero add-on: the certificate, the credentials and the volume of the object store in the
// cluster, and the location in which Velero and the KOTS console find their snapshots.
package velero

import (
	"context"
	"crypto/rand"
	"errors"
	"path"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/servingcert"
)

// StoreName is the name of the object store's service, Deployment, claim and credentials, all of which the chart names.
const StoreName = "object-store"

// volumeName is the name of the volume on a folder of a host.
const volumeName = "velero-object-store"

// claimSize is what the claim requests, the size that the console used for its own store (KOTS 1.131.2,
// pkg/snapshot/store.go: storageSize). Volumes in a folder of a host do not limit it.
const claimSize = "50Gi"

// Keys of the secret with the credentials of the object store.
const (
	accessKeyID     = "access-key-id"
	secretAccessKey = "secret-access-key"
)

// Bucket is the bucket of the object store that the chart creates.
const Bucket = "snapshots"

// BucketDir returns where the objects of the bucket are in the folder of a store: each is a file below it.
func BucketDir(folder string) string { return path.Join(folder, "objects", Bucket) }

// region is any: the object store has one region, its default.
const region = "us-east-1"

// Store is the object store of a cluster.
type Store struct {
	Kube      *kube.Client
	Namespace string // namespace of its chart
	IP        string // fixed address of its service
	Domain    string // DNS domain of the cluster's services
	Folder    string // folder of the host Node with its files; "" for a volume of the default storage class
	Node      string // only used with Folder
	ReadOnly  bool   // Velero must not remove snapshots that have expired
}

// Serving returns the store as a service with a certificate.
func (s Store) Serving() servingcert.Service {
	return servingcert.Service{Kube: s.Kube, Namespace: s.Namespace, Name: StoreName, IP: s.IP, Domain: s.Domain}
}

// URL returns the address of the store, which pods and nodes can reach.
func (s Store) URL() string { return "https://" + s.IP }

// PrepareNeeded returns the reason why Prepare would change something now, or "" if it would not.
func (s Store) PrepareNeeded(ctx context.Context, now time.Time) (string, error) {
	if reason, err := s.Serving().NeedsRenewal(ctx, now); err != nil || reason != "" {
		return reason, err
	}
	_, err := s.Kube.Secret(ctx, s.Namespace, StoreName)
	if errors.Is(err, kube.ErrNotFound) {
		return "the object store has no credentials", nil
	}
	if err != nil {
		return "", err
	}
	there, err := s.HasClaim(ctx)
	if err != nil || there {
		return "", err
	}
	return "the object store has no volume", nil
}

// Prepare creates what the chart needs before it is installed: the store's certificate, its random credentials, which
// are stored in the cluster only, and the claim on its volume. Existing ones are kept. The claim is not part of the
// chart, so that it survives a release without the store.
func (s Store) Prepare(ctx context.Context, now time.Time) error {
	if err := s.Kube.EnsureNamespace(ctx, s.Namespace); err != nil {
		return err
	}
	if err := s.Serving().Ensure(ctx, now); err != nil {
		return err
	}
	if err := s.ensureCredentials(ctx); err != nil {
		return err
	}
	if err := s.ensureFirstAccess(ctx); err != nil {
		return err
	}
	there, err := s.HasClaim(ctx)
	if err != nil || there {
		return err
	}
	return s.Kube.Apply(ctx, s.Namespace, s.volume()...)
}

// HasClaim reports whether the store has a claim on a volume. Folder has no effect any more then.
func (s Store) HasClaim(ctx context.Context) (bool, error) {
	return s.Kube.Exists(ctx, kube.Object{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: s.Namespace, Name: StoreName})
}

func (s Store) ensureCredentials(ctx context.Context) error {
	_, err := s.Kube.Secret(ctx, s.Namespace, StoreName)
	if !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	return s.Kube.PutSecret(ctx, kube.Secret{Namespace: s.Namespace, Name: StoreName,
		Data: map[string][]byte{accessKeyID: []byte(rand.Text()), secretAccessKey: []byte(rand.Text() + rand.Text())}})
}

// ensureFirstAccess stores the credentials for Velero before it starts for the first time: a secret that is created
// later appears in its pod after a minute or more.
func (s Store) ensureFirstAccess(ctx context.Context) error {
	for _, o := range []kube.Object{locationRef(s.Namespace), {APIVersion: "v1", Kind: "Secret", Namespace: s.Namespace, Name: credentialsSecret}} {
		if there, err := s.Kube.Exists(ctx, o); err != nil || there {
			return err
		}
	}
	_, cloud, err := s.access(ctx)
	if err != nil {
		return err
	}
	return Location{Kube: s.Kube, Namespace: s.Namespace, Cloud: cloud}.PutCredentials(ctx)
}

// volume returns the claim and, for a folder of a host, the volume that belongs to it: it stays with the host, and its
// files stay when the claim is deleted.
func (s Store) volume() []*unstructured.Unstructured {
	resources := map[string]any{"requests": map[string]any{"storage": claimSize}}
	modes := []any{"ReadWriteOnce"}
	claim := map[string]any{"accessModes": modes, "resources": resources}
	claimObject := func() *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "PersistentVolumeClaim",
			"metadata": map[string]any{"name": StoreName, "namespace": s.Namespace}, "spec": claim}}
	}
	if s.Folder == "" {
		return []*unstructured.Unstructured{claimObject()}
	}
	claim["storageClassName"], claim["volumeName"] = "", volumeName
	return []*unstructured.Unstructured{{Object: map[string]any{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": map[string]any{"name": volumeName},
		"spec": map[string]any{
			"accessModes": modes, "capacity": map[string]any{"storage": claimSize}, "persistentVolumeReclaimPolicy": "Retain",
			"claimRef": map[string]any{"namespace": s.Namespace, "name": StoreName},
			"local":    map[string]any{"path": s.Folder},
			"nodeAffinity": map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{map[string]any{"matchExpressions": []any{
				map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{s.Node}}}}}}},
		}}}, claimObject()}
}

// LocationNeeded returns the reason why EnsureLocation would change something now, or "" if it would not. A location
// that is in another store was set by a user in the console: it is left as it is.
func (s Store) LocationNeeded(ctx context.Context) (string, error) {
	have, err := s.Kube.Get(ctx, locationRef(s.Namespace))
	if errors.Is(err, kube.ErrNotFound) {
		return "snapshots have no location", nil
	}
	if err != nil || !s.isOwn(have) {
		return "", err
	}
	l, err := s.location(ctx)
	if err != nil {
		return "", err
	}
	return l.needed(ctx, have)
}

// EnsureLocation configures Velero and the console to keep snapshots in the store, with the objects that `kots velero
// configure-other-s3` writes, and waits until Velero reaches it. It must run after the chart is installed, and only if
// LocationNeeded says so.
func (s Store) EnsureLocation(ctx context.Context, w kube.Wait) error {
	l, err := s.location(ctx)
	if err != nil {
		return err
	}
	return l.Ensure(ctx, w)
}

// location returns the location in the store.
func (s Store) location(ctx context.Context) (Location, error) {
	ca, cloud, err := s.access(ctx)
	return Location{Kube: s.Kube, Namespace: s.Namespace, URL: s.URL(), Region: region, Bucket: Bucket, CA: ca, Cloud: cloud, ReadOnly: s.ReadOnly}, err
}

// isOwn reports whether a location is in this store.
func (s Store) isOwn(location *unstructured.Unstructured) bool {
	url, _, _ := unstructured.NestedString(location.Object, "spec", "config", "s3Url")
	return url == s.URL()
}

// access returns the certificate of the store's authority, in PEM, and its credentials as a profile of the AWS tools.
func (s Store) access(ctx context.Context) (ca, cloud []byte, err error) {
	if ca, err = s.Serving().CA(ctx); err != nil {
		return nil, nil, err
	}
	secret, err := s.Kube.Secret(ctx, s.Namespace, StoreName)
	if err != nil {
		return nil, nil, err
	}
	return ca, Credentials(string(secret.Data[accessKeyID]), string(secret.Data[secretAccessKey])), nil
}
