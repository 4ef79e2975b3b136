package kots

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
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
		if !isOnControllersOnly(have) {
			patch, err := placePatch(have)
			if err != nil {
				return err
			}
			if err := k.Kube.Patch(ctx, set, patch); err != nil {
				return err
			}
		}
		if err := k.replaceEarlyPod(ctx, set.Name+"-0"); err != nil {
			return err
		}
	}
	return nil
}

// unlimitedRequest matches the request of the container that waits for the datastore.
var unlimitedRequest = regexp.MustCompile(`wget -qO- \S+ 2>/dev/null`)

// placePatch returns the merge patch that binds the pods of set to controllers, and lets the console start sooner:
//   - kubelet asks every two seconds whether it is ready. The CLI has it wait for 10, and then ask every 10.
//   - The container that waits for the datastore gives a request up after 5 seconds. It has no limit, and pods get no
//     answer from a Service without endpoints: kube-router accepts their packets before kube-proxy rejects them. A console
//     that starts beside its datastore, after a restore or a boot, waited two minutes, until TCP gave up. The shell ends
//     the request: not every wget has a limit for it.
//
// Both are in KOTS 1.131.2, pkg/kotsadm/objects.
func placePatch(set *unstructured.Unstructured) ([]byte, error) {
	spec, _, _ := unstructured.NestedMap(set.Object, "spec", "template", "spec") // a copy
	pods := map[string]any{"nodeSelector": map[string]any{controllerLabel: controllerRole}}
	if c := findContainer(spec["containers"], "kotsadm"); c != nil {
		if probe, ok := c["readinessProbe"].(map[string]any); ok {
			probe["initialDelaySeconds"], probe["periodSeconds"], probe["failureThreshold"] = 2, 2, 15
		}
		pods["containers"] = spec["containers"]
	}
	if c := findContainer(spec["initContainers"], "wait-for-rqlite"); c != nil {
		args, _ := c["args"].([]any)
		for i, arg := range args {
			if text, ok := arg.(string); ok {
				args[i] = unlimitedRequest.ReplaceAllString(text, "{ $0 & w=$$!; (sleep 5; kill $$w) >/dev/null 2>&1 & wait $$w; }")
			}
		}
		pods["initContainers"] = spec["initContainers"]
	}
	return json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"spec": pods}}})
}

// replaceEarlyPod deletes a pod that was created before its StatefulSet was bound to controllers, or before the controller of
// StatefulSets saw that. A StatefulSet does not replace one that is not Ready; those that are, it replaces one by one.
func (k *Client) replaceEarlyPod(ctx context.Context, name string) error {
	ref := kube.Object{APIVersion: "v1", Kind: "Pod", Namespace: k.Namespace, Name: name}
	pod, err := k.Kube.Get(ctx, ref)
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	role, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeSelector", controllerLabel)
	if role == controllerRole || isReady(pod) || pod.GetDeletionTimestamp() != nil {
		return nil
	}
	return k.Kube.Delete(ctx, ref)
}

// isReady reports whether a pod is Ready.
func isReady(pod *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(pod.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["type"] == "Ready" && m["status"] == "True"
	})
}

// placeWhenCreated binds the pods to controllers as soon as the CLI has created them, so that they are
// created again while the datastore still starts. It returns when ctx ends.
func (k *Client) placeWhenCreated(ctx context.Context) {
	for wait.Sleep(ctx, placeInterval) == nil {
		_ = k.keepOnControllers(ctx) // the objects may not exist yet; placePods returns the error
	}
}
