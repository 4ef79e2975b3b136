// Package copies owns what is known of the copies of KOTS's datastore: how many
// there are to be, and whether enough of them are whole. It refuses to make or
// move any.
package copies

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

// Most is how many copies of its datastore KOTS keeps where it can, each on a
// node of its own (kots enable-ha).
const Most = 3

// Datastore is the name of the datastore's StatefulSet, and with a number that
// of each of its pods.
const Datastore = "kotsadm-rqlite"

// Wanted is how many pods the datastore is to have; 0 without a console.
func Wanted(ctx context.Context, c *kube.Client, namespace string) (int64, error) {
	obj, err := c.Get(ctx, kube.Object{APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: namespace, Name: Datastore})
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

// catchUp is how long a copy that is Ready may take to have all: less than a node
// that leaves waits for an answer. Leaders change, too, on a busy machine.
const catchUp = 12 * time.Second

// Elsewhere reports whether the data of a pod on node is safe without it:
// a copy of KOTS's datastore, of which a majority on other nodes is whole.
func Elsewhere(ctx context.Context, c *kube.Client, namespace, pod, node string) (bool, error) {
	if !strings.HasPrefix(pod, Datastore+"-") {
		return false, nil
	}
	want, err := Wanted(ctx, c, namespace)
	if err != nil || want < Most {
		return false, err
	}
	o := wait.Options{What: "copies of the console's data", Timeout: catchUp, Next: "plinth kubectl get pods -n " + namespace + " -o wide"}
	few := false // then a wait is vain
	err = wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		ready, err := readyElsewhere(ctx, c, namespace, node)
		if few = int64(len(ready)) <= want/2; err != nil || few {
			return few, "", err
		}
		have := int64(0)
		for _, name := range ready {
			if whole(ctx, c, namespace, name) {
				have++
			}
		}
		return have > want/2, fmt.Sprintf("%d of %d are whole", have, len(ready)), nil
	})
	var late *wait.TimeoutError
	if errors.As(err, &late) {
		return false, nil
	}
	return err == nil && !few, err
}

// port is where rqlite answers.
const port = "4001"

// readyElsewhere are the copies that are Ready on other nodes, by pod.
func readyElsewhere(ctx context.Context, c *kube.Client, namespace, node string) (ready []string, err error) {
	pods, err := c.Core().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + Datastore})
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

// whole reports whether a copy has all that the copies have agreed on. Ready alone
// says less: one that has just begun on another node is Ready as soon as it knows
// the leader, seconds before it has any data, and does not replace one that has.
func whole(ctx context.Context, c *kube.Client, namespace, pod string) bool {
	_, err := c.Core().Pods(namespace).ProxyGet("http", pod, port, "readyz", map[string]string{"sync": "", "timeout": "3s"}).DoRaw(ctx)
	return err == nil
}
