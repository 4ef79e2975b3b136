package kube

import (
	"context"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// PVC is a PersistentVolumeClaim that is bound to a volume.
type PVC struct {
	Namespace, Name, Volume string
	Recreated               bool   // a StatefulSet creates it again once it is deleted
	Node                    string // the only node that can use the volume; only of LocalPVCs and PVCsOfMissingNodes
	Path                    string // folder on that node with the files; "" if it is not known
}

// String returns a name such as "kotsadm/kotsadm-rqlite-kotsadm-rqlite-1".
func (c PVC) String() string { return c.Namespace + "/" + c.Name }

// PVCNode returns the only node that has the data of a claim. It returns "" if
// the claim does not exist or is not bound, and if several nodes can use the
// data.
func PVCNode(ctx context.Context, c *Client, namespace, claim string) (node string, err error) {
	pvc, err := c.Core().PersistentVolumeClaims(namespace).Get(ctx, claim, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && pvc.Spec.VolumeName == "" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	v, err := c.Core().PersistentVolumes().Get(ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return volumeNode(v), nil
}

// ReleasablePVCs returns the claims on volumes that only node can use, and that
// a StatefulSet would create again. It skips released claims. All other claims
// are kept, because nothing would create them again.
func ReleasablePVCs(ctx context.Context, c *Client, node string) ([]PVC, error) {
	all, err := LocalPVCs(ctx, c, node)
	return slices.DeleteFunc(all, func(x PVC) bool { return !x.Recreated }), err
}

// LocalPVCs returns the claims on volumes that only node can use, sorted. It skips
// released claims.
func LocalPVCs(ctx context.Context, c *Client, node string) ([]PVC, error) {
	volumes, err := c.Core().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []PVC
	for i := range volumes.Items {
		v := &volumes.Items[i]
		ref := v.Spec.ClaimRef
		if ref == nil || !isLocalTo(v, node) {
			continue
		}
		claim, err := c.Core().PersistentVolumeClaims(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && (claim.DeletionTimestamp != nil || claim.UID != ref.UID) {
			continue // released; a claim with its name is a new one
		}
		if err != nil {
			return nil, err
		}
		recreated, err := isStatefulSetPVC(ctx, c, ref.Namespace, ref.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, PVC{Namespace: ref.Namespace, Name: ref.Name, Volume: v.Name, Recreated: recreated, Node: node, Path: volumePath(v)})
	}
	slices.SortFunc(out, func(a, b PVC) int { return strings.Compare(a.String(), b.String()) })
	return out, nil
}

// volumePath returns the folder on a node with the files of a volume, "" if it is not in one.
func volumePath(v *corev1.PersistentVolume) string {
	switch {
	case v.Spec.Local != nil:
		return v.Spec.Local.Path
	case v.Spec.HostPath != nil:
		return v.Spec.HostPath.Path
	}
	return ""
}

// PVCsOfMissingNodes returns the claims on volumes that only a node could use which is not in the cluster, sorted: pods that use
// them never start.
func PVCsOfMissingNodes(ctx context.Context, c *Client) ([]PVC, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	return usedPVCs(ctx, c, func(v *corev1.PersistentVolume) bool {
		node := volumeNode(v)
		return node != "" && !slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == node })
	}, func(v *corev1.PersistentVolume, _ *corev1.PersistentVolumeClaim) *PVC {
		return &PVC{Volume: v.Name, Node: volumeNode(v), Path: volumePath(v)}
	})
}

// usedPVCs returns the claims on the volumes for which want returns true, sorted. describe returns what is known of one, whose name
// is set afterwards, or nil to leave it out.
func usedPVCs(ctx context.Context, c *Client, want func(*corev1.PersistentVolume) bool, describe func(*corev1.PersistentVolume, *corev1.PersistentVolumeClaim) *PVC) ([]PVC, error) {
	volumes, err := c.Core().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []PVC
	for i := range volumes.Items {
		v := &volumes.Items[i]
		ref := v.Spec.ClaimRef
		if ref == nil || !want(v) {
			continue
		}
		claim, err := c.Core().PersistentVolumeClaims(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && claim.UID != ref.UID {
			continue // released
		}
		if err != nil {
			return nil, err
		}
		if pvc := describe(v, claim); pvc != nil {
			pvc.Namespace, pvc.Name = ref.Namespace, ref.Name
			out = append(out, *pvc)
		}
	}
	slices.SortFunc(out, func(a, b PVC) int { return strings.Compare(a.String(), b.String()) })
	return out, nil
}

// consoleLabel is the label that KOTS gives the claims of the console, which its snapshots do not need (KOTS 1.131.2,
// pkg/kotsadm/types/constants.go).
const consoleLabel = "kots.io/kotsadm"

// HostPathPVCs returns the claims on volumes of the type hostPath, sorted, which Velero leaves out of a snapshot with a
// mere warning (Velero 1.18.3, pkg/podvolume/backupper.go). The claims of the console are not among them.
func HostPathPVCs(ctx context.Context, c *Client) ([]PVC, error) {
	return usedPVCs(ctx, c, func(v *corev1.PersistentVolume) bool { return v.Spec.HostPath != nil },
		func(v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) *PVC {
			if claim.Labels[consoleLabel] != "" {
				return nil
			}
			return &PVC{Volume: v.Name}
		})
}

// isStatefulSetPVC reports whether a claim is one that a StatefulSet creates: its name is
// TEMPLATE-STATEFULSET-NUMBER. The pod that uses it does not tell: for seconds after its
// eviction, and longer while the controller manager changes its leader, there is none.
func isStatefulSetPVC(ctx context.Context, c *Client, namespace, claim string) (bool, error) {
	api, err := c.resourceFor(Object{APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: namespace})
	if err != nil {
		return false, err
	}
	sets, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	for i := range sets.Items {
		templates, _, _ := unstructured.NestedSlice(sets.Items[i].Object, "spec", "volumeClaimTemplates")
		for _, t := range templates {
			template, _ := t.(map[string]any)
			name, _, _ := unstructured.NestedString(template, "metadata", "name")
			number, ok := strings.CutPrefix(claim, name+"-"+sets.Items[i].GetName()+"-")
			if _, err := strconv.ParseUint(number, 10, 31); ok && err == nil {
				return true, nil
			}
		}
	}
	return false, nil
}

// ReleasePVCs deletes volumes and the claims on them. The volume is deleted
// first, so that the provisioner does not try to empty it on a node that may no
// longer exist.
func ReleasePVCs(ctx context.Context, c *Client, claims []PVC) error {
	for _, x := range claims {
		err := c.Core().PersistentVolumes().Delete(ctx, x.Volume, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		err = c.Core().PersistentVolumeClaims(x.Namespace).Delete(ctx, x.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
