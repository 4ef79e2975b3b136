package helm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
)

// crdKind is the kind of a CustomResourceDefinition.
const crdKind = "CustomResourceDefinition"

// hookRun runs the hooks of a revision.
type hookRun struct {
	client  *kube.Client
	release *release.Release
	wait    kube.Wait
}

// run runs the hooks of an event, by weight and then by name as Helm does, and waits until each is complete. Hooks
// that are deleted when they have succeeded are deleted at the end.
func (h hookRun) run(ctx context.Context, event release.HookEvent) error {
	var hooks []*release.Hook
	for _, hook := range h.release.Hooks {
		if slices.Contains(hook.Events, event) {
			hooks = append(hooks, hook)
		}
	}
	slices.SortStableFunc(hooks, func(a, b *release.Hook) int {
		return cmp.Or(cmp.Compare(a.Weight, b.Weight), cmp.Compare(a.Name, b.Name))
	})
	for _, hook := range hooks {
		if err := h.runHook(ctx, hook); err != nil {
			return fmt.Errorf("%s hook %s (%s): %w", event, hook.Name, hook.Path, err)
		}
	}
	for _, hook := range slices.Backward(hooks) {
		if err := h.deleteAfter(ctx, hook, release.HookSucceeded); err != nil {
			return err
		}
	}
	return nil
}

// runHook creates the object of a hook and waits until it is complete. An object that is left of an earlier run is
// deleted first: always if it is a Job or a Pod, which cannot run again.
func (h hookRun) runHook(ctx context.Context, hook *release.Hook) error {
	objects, err := kube.Decode([]byte(hook.Manifest))
	if err != nil {
		return err
	}
	for _, obj := range objects {
		ref := kube.RefOf(obj, h.release.Namespace)
		replaced := len(hook.DeletePolicies) == 0 || slices.Contains(hook.DeletePolicies, release.HookBeforeHookCreation)
		if isTask(obj) || replaced && !isKept(obj) {
			if err := h.deleteObject(ctx, ref); err != nil {
				return err
			}
		}
		if err := h.client.ApplyWhenServed(ctx, h.wait, h.release.Namespace, obj); err != nil {
			return err
		}
		if obj.GetKind() == crdKind {
			err = h.client.WaitEstablished(ctx, h.wait, ref)
		} else {
			err = h.client.WaitCompleted(ctx, h.wait, ref)
		}
		if err != nil {
			return errors.Join(err, h.deleteAfter(ctx, hook, release.HookFailed))
		}
	}
	return nil
}

// isTask reports whether an object runs once.
func isTask(obj *unstructured.Unstructured) bool {
	return obj.GetKind() == "Job" || obj.GetKind() == "Pod"
}

// deleteAfter deletes the objects of a hook if its delete policies contain policy.
func (h hookRun) deleteAfter(ctx context.Context, hook *release.Hook, policy release.HookDeletePolicy) error {
	if !slices.Contains(hook.DeletePolicies, policy) {
		return nil
	}
	objects, err := kube.Decode([]byte(hook.Manifest))
	if err != nil {
		return err
	}
	for _, obj := range objects {
		if isKept(obj) {
			continue
		}
		if err := h.client.Delete(ctx, kube.RefOf(obj, h.release.Namespace)); err != nil {
			return err
		}
	}
	return nil
}

// deleteObject deletes an object and waits until it does not exist.
func (h hookRun) deleteObject(ctx context.Context, ref kube.Object) error {
	there, err := h.client.Exists(ctx, ref)
	if err != nil || !there {
		return err
	}
	if err := h.client.Delete(ctx, ref); err != nil {
		return err
	}
	return h.client.WaitDeleted(ctx, h.wait, ref)
}

// applyCRDs applies those CustomResourceDefinitions in the folders crds/ of a chart that the cluster does not have,
// and waits until their kinds are served. Like Helm, it does not change those that exist.
func applyCRDs(ctx context.Context, c *kube.Client, ch *chart.Chart, w kube.Wait) error {
	var applied []kube.Object
	for _, file := range ch.CRDObjects() {
		objects, err := kube.Decode(file.File.Data)
		if err != nil {
			return fmt.Errorf("%s: %w", file.Filename, err)
		}
		for _, obj := range objects {
			ref := kube.RefOf(obj, "")
			there, err := c.Exists(ctx, ref)
			if err != nil {
				return err
			}
			if !there {
				if err := c.Apply(ctx, "", obj); err != nil {
					return err
				}
			}
			applied = append(applied, ref)
		}
	}
	for _, ref := range applied {
		if err := c.WaitEstablished(ctx, w, ref); err != nil {
			return err
		}
	}
	return nil
}
