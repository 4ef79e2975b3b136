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

// isOnControllersOnly reports whether the console's pod is bound to controllers.
func isOnControllersOnly(console *unstructured.Unstructured) bool {
	role, _, _ := unstructured.NestedString(console.Object, "spec", "template", "spec", "nodeSelector", controllerLabel)
	return role == controllerRole
}

// keepOnControllers binds the console's pod to controllers. The service account of the pod is
// administrator of the cluster, and root on its node can use it. A pod that runs elsewhere, or was
// created before, is created again.
func (k *Client) keepOnControllers(ctx context.Context) error {
	_, set, _ := k.consoleObjects()
	console, err := k.Kube.Get(ctx, set)
	if err != nil || isOnControllersOnly(console) {
		return err
	}
	patch := `{"spec":{"template":{"spec":{"nodeSelector":{"` + controllerLabel + `":"` + controllerRole + `"}}}}}`
	if err := k.Kube.Patch(ctx, set, []byte(patch)); err != nil {
		return err
	}
	// The StatefulSet does not replace a pod that is not Ready.
	return k.Kube.Delete(ctx, kube.Object{APIVersion: "v1", Kind: "Pod", Namespace: k.Namespace, Name: set.Name + "-0"})
}

// placeWhenCreated binds the console's pod to controllers as soon as the CLI has created it, so that
// the pod is created again while it still waits for the datastore. It returns when ctx ends.
func (k *Client) placeWhenCreated(ctx context.Context) {
	for wait.Sleep(ctx, placeInterval) == nil {
		if k.keepOnControllers(ctx) == nil {
			return
		}
	}
}
