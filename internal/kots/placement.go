package kots

import (
	"context"
	"encoding/json"
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
		patch, err := placePatch(have)
		if err != nil {
			return err
		}
		if err := k.Kube.Patch(ctx, set, patch); err != nil {
			return err
		}
		// The StatefulSet does not replace a pod that is not Ready. Further replicas are Ready, and replaced one by one.
		if err := k.Kube.Delete(ctx, kube.Object{APIVersion: "v1", Kind: "Pod", Namespace: k.Namespace, Name: set.Name + "-0"}); err != nil {
			return err
		}
	}
	return nil
}

// placePatch returns the merge patch that binds the pods of set to controllers. It also has kubelet ask the console every
// two seconds whether it is ready: the CLI has it wait for 10 seconds, and then ask every 10 (KOTS 1.131.2,
// pkg/kotsadm/objects/kotsadm_objects.go).
func placePatch(set *unstructured.Unstructured) ([]byte, error) {
	pods := map[string]any{"nodeSelector": map[string]any{controllerLabel: controllerRole}}
	containers, _, _ := unstructured.NestedSlice(set.Object, "spec", "template", "spec", "containers")
	for _, c := range containers {
		c, _ := c.(map[string]any)
		if probe, ok := c["readinessProbe"].(map[string]any); ok && c["name"] == "kotsadm" {
			probe["initialDelaySeconds"], probe["periodSeconds"], probe["failureThreshold"] = 2, 2, 15
			pods["containers"] = containers
		}
	}
	return json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": pods}}})
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
