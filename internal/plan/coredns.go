package plan

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
)

// CoreDNS of k0s, and the Service by which pods reach it.
var (
	coreDNS        = kube.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: systemNamespace, Name: "coredns"}
	coreDNSService = kube.Object{APIVersion: "v1", Kind: "Service", Namespace: systemNamespace, Name: "kube-dns"}
)

// useCoreDNSEarly returns the step that lets pods ask CoreDNS although it is not Ready yet: it answers within seconds, but
// kubelet does not check that for half a minute (k0s, pkg/component/controller, coredns.go). The step has nothing to do in a
// cluster in which one is Ready.
func (c Cluster) useCoreDNSEarly() step.Step {
	return c.coreDNSStep("coredns-early", "Let pods look up names before CoreDNS is checked", true, func(ctx context.Context, client *kube.Client) (bool, error) {
		deployment, err := getIfAny(ctx, client, coreDNS)
		if deployment == nil {
			return false, err
		}
		ready, _, err := unstructured.NestedInt64(deployment.Object, "status", "readyReplicas")
		return ready == 0, err
	})
}

// useCoreDNSWhenReady returns the step that ends what useCoreDNSEarly began.
func (c Cluster) useCoreDNSWhenReady() step.Step {
	return c.coreDNSStep("coredns-ready", "Let pods look up names only where CoreDNS is Ready", false, func(context.Context, *kube.Client) (bool, error) { return true, nil })
}

// coreDNSStep returns a step that sets whether the Service of CoreDNS has addresses of pods that are not Ready, if it is to.
func (c Cluster) coreDNSStep(id, title string, early bool, isTo func(context.Context, *kube.Client) (bool, error)) step.Step {
	return step.Step{ID: id, Title: title, Affects: []string{"service " + systemNamespace + "/" + coreDNSService.Name},
		Check: func(ctx context.Context) (step.State, error) {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return step.Unknown("k0s-start"), nil
			}
			service, err := getIfAny(ctx, client, coreDNSService)
			if err != nil {
				return step.Unknown("k0s-start"), ctx.Err()
			}
			if service == nil || isPublishedEarly(service) == early {
				return step.Done(), nil
			}
			if to, err := isTo(ctx, client); !to || err != nil {
				return step.Done(), err
			}
			return step.Needed(fmt.Sprintf("its Service does not have publishNotReadyAddresses: %v", early)), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return err
			}
			return client.Patch(ctx, coreDNSService, fmt.Appendf(nil, `{"spec":{"publishNotReadyAddresses":%v}}`, early))
		},
	}
}

// isPublishedEarly reports whether a Service has the addresses of pods that are not Ready.
func isPublishedEarly(service *unstructured.Unstructured) bool {
	early, _, _ := unstructured.NestedBool(service.Object, "spec", "publishNotReadyAddresses")
	return early
}

// getIfAny returns an object, or nil if there is none.
func getIfAny(ctx context.Context, client *kube.Client, o kube.Object) (*unstructured.Unstructured, error) {
	found, err := client.Get(ctx, o)
	if errors.Is(err, kube.ErrNotFound) {
		return nil, nil
	}
	return found, err
}
