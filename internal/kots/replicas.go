package kots

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/wait"
)

// HAReplicas is the number of replicas of its datastore that KOTS runs if it
// can, each on its own node (kots enable-ha).
const HAReplicas = 3

// DatastoreName is the name of the datastore's StatefulSet; with a number, it
// is the name of each of its pods.
const DatastoreName = "kotsadm-rqlite"

// ConsolePod is the name of the console's pod.
const ConsolePod = "kotsadm-0"

// DatastoreReplicas returns the desired number of pods of the datastore, or 0
// without a console.
func DatastoreReplicas(ctx context.Context, c *kube.Client, namespace string) (int64, error) {
	obj, err := c.Get(ctx, kube.Object{APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: namespace, Name: DatastoreName})
	if errors.Is(err, kube.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, found, err := unstructured.NestedInt64(obj.Object, "spec", "replicas")
	if !found {
		n = 1
	}
	return n, err
}

// ForgetData prepares the console of a cluster that has lost the volumes of all its controllers for
// an empty datastore: with one replica, because each replica needs a controller of its own, and
// without the record that an application is installed. HANeeded asks for the others again.
func ForgetData(ctx context.Context, c *kube.Client, namespace string) error {
	have, err := DatastoreReplicas(ctx, c, namespace)
	if err == nil && have > 1 {
		err = c.Patch(ctx, kube.Object{APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: namespace, Name: DatastoreName}, []byte(`{"spec":{"replicas":1}}`))
	}
	if err != nil {
		return err
	}
	return c.Delete(ctx, InstalledAppRef(namespace))
}

// InstalledAppRef returns the reference of the ConfigMap in which Plinth records the application that it has installed
// in the console in namespace.
func InstalledAppRef(namespace string) kube.Object {
	return kube.Object{APIVersion: "v1", Kind: "ConfigMap", Namespace: namespace, Name: "plinth-application"}
}

// replicaSyncTimeout is how long IsReplicatedElsewhere waits for a Ready
// replica to catch up: less than the time that a node that leaves the cluster
// waits for a response. The leader may change, too, on a busy machine.
const replicaSyncTimeout = 12 * time.Second

// IsReplicatedElsewhere reports whether the data of a pod on node is safe if
// the node is lost: the pod is a replica of KOTS's datastore, and a majority of
// the replicas, on other nodes, is up to date.
func IsReplicatedElsewhere(ctx context.Context, c *kube.Client, namespace, pod, node string) (bool, error) {
	if !strings.HasPrefix(pod, DatastoreName+"-") {
		return false, nil
	}
	want, err := DatastoreReplicas(ctx, c, namespace)
	if err != nil || want < HAReplicas {
		return false, err
	}
	o := wait.Options{What: "replicas of the console's data", Timeout: replicaSyncTimeout, NextCommand: "plinth kubectl get pods -n " + namespace + " -o wide"}
	few := false // too few are Ready, so that waiting cannot succeed
	err = wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		ready, err := readyReplicasElsewhere(ctx, c, namespace, node)
		if few = int64(len(ready)) <= want/2; err != nil || few {
			return few, "", err
		}
		have := int64(0)
		for _, name := range ready {
			if isReplicaSynced(ctx, c, namespace, name) {
				have++
			}
		}
		return have > want/2, fmt.Sprintf("%d of %d are up to date", have, len(ready)), nil
	})
	var late *wait.TimeoutError
	if errors.As(err, &late) {
		return false, nil
	}
	return err == nil && !few, err
}

// rqlitePort is the HTTP port of rqlite.
const rqlitePort = "4001"

// readyReplicasElsewhere returns the names of the Ready replicas on other
// nodes.
func readyReplicasElsewhere(ctx context.Context, c *kube.Client, namespace, node string) (ready []string, err error) {
	pods, err := c.Core().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + DatastoreName})
	if err != nil {
		return nil, err
	}
	for _, p := range pods.Items {
		for _, cond := range p.Status.Conditions {
			if p.Spec.NodeName != node && cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue {
				ready = append(ready, p.Name)
			}
		}
	}
	return ready, nil
}

// isReplicaSynced reports whether a replica has all committed data. Readiness
// alone does not show it: a replica that has just started on another node is
// Ready as soon as it knows the leader, seconds before it has any data, and
// cannot replace one that has the data.
func isReplicaSynced(ctx context.Context, c *kube.Client, namespace, pod string) bool {
	_, err := c.Core().Pods(namespace).ProxyGet("http", pod, rqlitePort, "readyz", map[string]string{"sync": "", "timeout": "3s"}).DoRaw(ctx)
	return err == nil
}
