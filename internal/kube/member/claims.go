package member

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plinthdev/plinth/internal/kube"
)

// Claim is a pod's claim on a volume.
type Claim struct{ Namespace, Name, Volume string }

// String is "kotsadm/kotsadm-rqlite-kotsadm-rqlite-1".
func (c Claim) String() string { return c.Namespace + "/" + c.Name }

// Home is the one node on which the data of a claim is; "" for a claim that is not
// there or not bound, and for data that several nodes can use.
func Home(ctx context.Context, c *kube.Client, namespace, claim string) (node string, err error) {
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
	return homeOf(v), nil
}

// Claims lists the claims on volumes of node alone that a StatefulSet would make
// again, and that nobody has released yet. All others are left: nothing would
// bring them back.
func Claims(ctx context.Context, c *kube.Client, node string) ([]Claim, error) {
	volumes, err := c.Core().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []Claim
	for i := range volumes.Items {
		v := &volumes.Items[i]
		ref := v.Spec.ClaimRef
		if ref == nil || !onlyOn(v, node) {
			continue
		}
		claim, err := c.Core().PersistentVolumeClaims(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && (claim.DeletionTimestamp != nil || claim.UID != ref.UID) {
			continue // released; what has its name now is another one
		}
		if err != nil {
			return nil, err
		}
		again, err := madeAgain(ctx, c, ref.Namespace, ref.Name)
		if err != nil {
			return nil, err
		}
		if again {
			out = append(out, Claim{Namespace: ref.Namespace, Name: ref.Name, Volume: v.Name})
		}
	}
	return out, nil
}

// madeAgain reports whether a claim is that of a StatefulSet's pod.
func madeAgain(ctx context.Context, c *kube.Client, namespace, claim string) (bool, error) {
	pods, err := c.Core().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	for i := range pods.Items {
		owner := metav1.GetControllerOf(&pods.Items[i])
		if owner == nil || owner.Kind != "StatefulSet" {
			continue
		}
		for _, v := range pods.Items[i].Spec.Volumes {
			if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim {
				return true, nil
			}
		}
	}
	return false, nil
}

// Release deletes volumes and the claims on them. The volume is first: then the
// provisioner does not try to empty it on a node that may be gone.
func Release(ctx context.Context, c *kube.Client, claims []Claim) error {
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
