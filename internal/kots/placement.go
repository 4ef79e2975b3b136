package kots

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/wait"
)

// The label of nodes on which the console may run: controllers, which have it from the moment they
// register. The admission policy plinth-node-role lets no worker set it.
const (
	controllerLabel = "node.k0sproject.io/role"
	controllerRole  = "control-plane"
)

// placeInterval is how often keepOnControllers looks for the console while the CLI creates it.
const placeInterval = 300 * time.Millisecond

// isOnControllersOnly reports whether the pods of a StatefulSet of the console are bound to controllers.
func isOnControllersOnly(set *unstructured.Unstructured) bool {
	role, _, _ := unstructured.NestedString(set.Object, "spec", "template", "spec", "nodeSelector", controllerLabel)
	return role == controllerRole
}

// adjustPods changes what the CLI cannot be told about the pods of the console, or forgets when it upgrades them.
func (k *Client) adjustPods(ctx context.Context, c ConsoleSpec) error {
	if err := k.placePods(ctx); err != nil {
		return err
	}
	return k.trust(ctx, c.TrustedCAs)
}

// placePods binds the pods to controllers, unless they may run on every node.
func (k *Client) placePods(ctx context.Context) error {
	if k.AnyNode {
		return nil
	}
	return k.keepOnControllers(ctx)
}

// keepOnControllers binds the pods of the console and of its database to controllers. The service
// account of the console is administrator of the cluster, and who can write the database is
// administrator of the console: root on the node of either could use it. Pods that were created before
// are created again.
func (k *Client) keepOnControllers(ctx context.Context) error {
	rqlite, console, _ := k.consoleObjects()
	for _, set := range []kube.Object{rqlite, console} {
		have, err := k.Kube.Get(ctx, set)
		if err != nil {
			return err
		}
		if isOnControllersOnly(have) {
			continue
		}
		patch := `{"spec":{"template":{"spec":{"nodeSelector":{"` + controllerLabel + `":"` + controllerRole + `"}}}}}`
		if err := k.Kube.Patch(ctx, set, []byte(patch)); err != nil {
			return err
		}
		// The StatefulSet does not replace a pod that is not Ready. Further replicas are Ready, and replaced one by one.
		if err := k.Kube.Delete(ctx, kube.Object{APIVersion: "v1", Kind: "Pod", Namespace: k.Namespace, Name: set.Name + "-0"}); err != nil {
			return err
		}
	}
	return nil
}

// placeWhenCreated binds the pods to controllers as soon as the CLI has created them, so that they are
// created again while the datastore still starts. It returns when ctx ends.
func (k *Client) placeWhenCreated(ctx context.Context) {
	for wait.Sleep(ctx, placeInterval) == nil {
		if k.keepOnControllers(ctx) == nil {
			return
		}
	}
}
