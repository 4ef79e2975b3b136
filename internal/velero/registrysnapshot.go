package velero

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
)

// registryMaxAge is the age of a snapshot up to which one of the registry is taken for it, also after controllers were off.
const registryMaxAge = 24 * time.Hour

// registryLabel is the label of the snapshots of a registry, by which a user lists them.
const registryLabel = "plinth.dev/registry"

// listedSnapshot is the part of a Backup object that is read.
type listedSnapshot struct {
	Metadata struct {
		Name              string            `json:"name"`
		Annotations       map[string]string `json:"annotations"`
		CreationTimestamp time.Time         `json:"creationTimestamp"`
		DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		TTL string `json:"ttl"`
	} `json:"spec"`
	Status struct {
		Phase          string     `json:"phase"`
		StartTimestamp *time.Time `json:"startTimestamp"`
	} `json:"status"`
}

// needsRegistry reports whether a snapshot of the registry has to be taken for s: it is a full one of a console whose
// applications pull from the registry, has not failed, and was taken by this cluster, not found in the store.
func (s listedSnapshot) needsRegistry(now time.Time) bool {
	a, created, started := s.Metadata.Annotations, s.Metadata.CreationTimestamp, s.Status.StartTimestamp
	return a[instanceAnnotation] == "true" && a[registryAnnotation] != "" && s.Metadata.DeletionTimestamp == nil && !strings.Contains(s.Status.Phase, "Failed") &&
		s.Status.Phase != "Deleting" && now.Sub(created) < registryMaxAge && (started == nil || !created.After(started.Add(time.Second)))
}

// EnsureRegistrySnapshots has Velero take a snapshot of the registry in a namespace for each new snapshot of the console,
// which does not contain it, and returns the names of those that it has begun. It can be called on several controllers at
// once. A cluster without Velero has none.
func (o Operator) EnsureRegistrySnapshots(ctx context.Context, registryNamespace string, now time.Time) (begun []string, err error) {
	raw, err := o.Kube.ListRaw(ctx, "/apis/"+apiVersion+"/namespaces/"+o.Namespace+"/backups")
	if apierrors.IsNotFound(err) || errors.Is(err, kube.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list struct{ Items []listedSnapshot }
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	for _, s := range list.Items {
		taken := slices.ContainsFunc(list.Items, func(x listedSnapshot) bool { return x.Metadata.Annotations[RegistryOfAnnotation] == s.Metadata.Name })
		if taken || !s.needsRegistry(now) {
			continue
		}
		spec := map[string]any{"includedNamespaces": []any{registryNamespace}, "includedResources": stringList(RegistryResources()), "defaultVolumesToFsBackup": true,
			"snapshotVolumes": false, "storageLocation": locationName}
		if s.Spec.TTL != "" {
			spec["ttl"] = s.Spec.TTL
		}
		name := s.Metadata.Name + "-registry"
		if err := o.Kube.Apply(ctx, o.Namespace, &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": "Backup",
			"metadata": map[string]any{"name": name, "namespace": o.Namespace, "labels": map[string]any{registryLabel: "true"},
				"annotations": map[string]any{RegistryOfAnnotation: s.Metadata.Name}}, "spec": spec}}); err != nil {
			return begun, err
		}
		begun = append(begun, name)
	}
	return begun, nil
}
