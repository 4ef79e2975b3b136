package kube

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/upgrade"
)

// Disruptions returns what the drain of a node can take down in an upgrade, for all nodes: see DrainMovable.
func Disruptions(ctx context.Context, c *Client) (d upgrade.Disruptions, err error) {
	pods, err := c.Core().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return d, err
	}
	local, err := localClaims(ctx, c)
	if err != nil {
		return d, err
	}
	var moved []corev1.Pod
	for i := range pods.Items {
		if p := &pods.Items[i]; p.Spec.NodeName != "" && !staysOnNode(p) && metav1.GetControllerOf(p) != nil && !hasLocalClaim(p, local) {
			moved = append(moved, *p)
			d.Pods = append(d.Pods, drainedPod(p))
		}
	}
	budgets, err := listAll(ctx, c, "policy/v1", "PodDisruptionBudget")
	if err != nil {
		return d, err
	}
	for i := range budgets {
		b, err := budgetOf(&budgets[i], pods.Items)
		if err != nil {
			return d, err
		}
		d.Budgets = append(d.Budgets, b)
	}
	for _, kind := range []string{"Deployment", "StatefulSet"} {
		workloads, err := listAll(ctx, c, "apps/v1", kind)
		if err != nil {
			return d, err
		}
		for i := range workloads {
			d.Workloads = append(d.Workloads, placementOf(&workloads[i], moved))
		}
	}
	return d, nil
}

// localClaims returns the claims whose data only one node has, as "namespace/name".
func localClaims(ctx context.Context, c *Client) (map[string]bool, error) {
	volumes, err := c.Core().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	local := map[string]bool{}
	for i := range volumes.Items {
		v := &volumes.Items[i]
		if ref := v.Spec.ClaimRef; ref != nil && volumeNode(v) != "" {
			local[ref.Namespace+"/"+ref.Name] = true
		}
	}
	return local, nil
}

// hasLocalClaim reports whether a pod has a volume that only one node has. local is the result of localClaims.
func hasLocalClaim(p *corev1.Pod, local map[string]bool) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil && local[p.Namespace+"/"+v.PersistentVolumeClaim.ClaimName]
	})
}

// drainedPod returns a pod that a drain evicts, with the volumes that it loses.
func drainedPod(p *corev1.Pod) upgrade.Pod {
	out := upgrade.Pod{Namespace: p.Namespace, Name: p.Name, Node: p.Spec.NodeName}
	for _, v := range p.Spec.Volumes {
		if v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault {
			out.EmptyDirs = append(out.EmptyDirs, v.Name)
		}
	}
	return out
}

// budgetOf returns a PodDisruptionBudget with the pods that it protects.
func budgetOf(obj *unstructured.Unstructured, pods []corev1.Pod) (upgrade.Budget, error) {
	var pdb policyv1.PodDisruptionBudget
	if err := fromUnstructured(obj.Object, &pdb); err != nil {
		return upgrade.Budget{}, err
	}
	s := pdb.Status
	b := upgrade.Budget{Namespace: pdb.Namespace, Name: pdb.Name, Allowed: int(s.DisruptionsAllowed), Healthy: int(s.CurrentHealthy), Required: int(s.DesiredHealthy)}
	for _, p := range podsOf(obj, pods) {
		b.Pods = append(b.Pods, p.Name)
	}
	return b, nil
}

// placementOf returns a Deployment or StatefulSet with the nodes of its pods.
func placementOf(obj *unstructured.Unstructured, pods []corev1.Pod) upgrade.Placement {
	w := upgrade.Placement{Kind: obj.GetKind(), Namespace: obj.GetNamespace(), Name: obj.GetName(), Replicas: 1}
	if n, found, _ := unstructured.NestedInt64(obj.Object, "spec", "replicas"); found {
		w.Replicas = int(n)
	}
	for _, p := range podsOf(obj, pods) {
		if p.Spec.NodeName != "" && !isIgnoredPod(&p) && !slices.Contains(w.Nodes, p.Spec.NodeName) {
			w.Nodes = append(w.Nodes, p.Spec.NodeName)
		}
	}
	return w
}
