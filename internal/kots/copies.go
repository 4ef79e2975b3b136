package kots

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
)

// Copies is how many copies of its datastore KOTS keeps where it can, each on a
// node of its own (kots enable-ha).
const Copies = 3

// datastore is the name of the datastore's StatefulSet, and with a number that
// of each of its pods.
const datastore = "kotsadm-rqlite"

// FilesClaim is the claim on the console's own files, such as the releases that it
// was given: of them there is one copy.
const FilesClaim = "kotsadmdata-kotsadm-0"

// CopiesNeeded says why the datastore has to be copied to further nodes; ""
// when it has its copies, when fewer than three controllers are Ready, and when
// there is no console. Copies that are not up are not its matter: on a node that
// is switched off there is nothing to do.
func (k *KOTS) CopiesNeeded(ctx context.Context) (string, error) {
	set, _, _ := k.parts()
	have, err := copies(ctx, k.Kube, set)
	if err != nil || have == 0 || have >= Copies {
		return "", err
	}
	controllers, err := k.Kube.Controllers(ctx)
	if err != nil {
		return "", err
	}
	ready := 0
	for _, n := range controllers {
		if n.Ready {
			ready++
		}
	}
	if ready < Copies {
		return "", nil
	}
	return fmt.Sprintf("%d controllers are there, and the console's data is on %d", ready, have), nil
}

// copies is how many pods the datastore is to have; 0 without a console.
func copies(ctx context.Context, c *kube.Client, set kube.Object) (int64, error) {
	obj, err := c.Get(ctx, set)
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

// Copy has the CLI give the datastore its copies, and waits until all are up.
// What is in it is kept: the new ones join the old one.
func (k *KOTS) Copy(ctx context.Context, w kube.Wait) error {
	set, _, _ := k.parts()
	err := k.enableHA(ctx, w, set)
	if err == nil {
		return nil
	}
	// Another controller may join at this moment, and have begun the same.
	if why, look := k.CopiesNeeded(ctx); look == nil && why == "" {
		err = k.Kube.WaitWorkloads(ctx, w, set)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitStep, "copy the console's data to three nodes", err,
		"see what its pods say: plinth kubectl get pods -n "+k.Namespace+"; this host is a node, and the same command tries again")
}

// enableHA runs the CLI and, as that says only that it waits, looks meanwhile at
// what it waits for.
func (k *KOTS) enableHA(ctx context.Context, w kube.Wait, set kube.Object) error {
	watch, stop := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { _ = k.Kube.WaitWorkloads(watch, w, set) }) // the CLI's word is the one that counts
	_, err := k.run(ctx, nil, nil, "enable-ha", "--wait-duration", timeout(w.Timeout))
	stop()
	looking.Wait()
	return err
}

// CopiedElsewhere reports whether the data of a pod on node is safe without it:
// a copy of KOTS's datastore, of which a majority is Ready on other nodes.
func CopiedElsewhere(ctx context.Context, c *kube.Client, namespace, pod, node string) (bool, error) {
	if !strings.HasPrefix(pod, datastore+"-") {
		return false, nil
	}
	set, _, _ := (&KOTS{Namespace: namespace}).parts()
	want, err := copies(ctx, c, set)
	if err != nil || want < Copies {
		return false, err
	}
	pods, err := c.Core().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + datastore})
	if err != nil {
		return false, err
	}
	ready := int64(0)
	for _, p := range pods.Items {
		for _, cond := range p.Status.Conditions {
			if p.Spec.NodeName != node && cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	return ready > want/2, nil
}
