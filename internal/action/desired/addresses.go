package desired

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// addressesFlag is the flag with which a user chooses the addresses of the load balancer.
const addressesFlag = "--load-balancer-addresses"

// choosingAddresses is what fails, for messages.
const choosingAddresses = "choose the addresses of the load balancer"

// Addresses are the addresses of the load balancer that a user has chosen instead of those of the Installer; none if the
// Installer's are used.
type Addresses []string

// ChooseAddresses returns the addresses that a user has chosen for the load balancer of an Installer: those of the flag, or
// those that are remembered.
func ChooseAddresses(ctx context.Context, env *action.Env, in *spec.Installer, receipt journal.Receipt, flag []string) (Addresses, error) {
	switch {
	case in.Spec.LoadBalancer == nil && len(flag) > 0:
		return nil, problem.New(problem.ExitUsage, choosingAddresses, errors.New("the Installer of this bundle has no loadBalancer"), "omit "+addressesFlag)
	case in.Spec.LoadBalancer == nil:
		return nil, nil
	case len(flag) > 0:
		_, err := in.WithLoadBalancerAddresses(flag)
		if err != nil {
			err = problem.Newf(problem.ExitUsage, choosingAddresses, "correct them; nothing was changed", "%s: %w", addressesFlag, err)
		}
		return flag, err
	}
	chosen := RememberedAddresses(ctx, env, receipt)
	if len(chosen) == 0 {
		return nil, nil
	}
	if _, err := in.WithLoadBalancerAddresses(chosen); err != nil {
		return nil, problem.Newf(problem.ExitConfig, choosingAddresses, "choose others with "+addressesFlag+"; nothing was changed", "those that were chosen before do not fit the Installer of this bundle: %w", err)
	}
	return chosen, nil
}

// Require returns a problem if the load balancer of an Installer would have no addresses.
func (a Addresses) Require(in *spec.Installer) error {
	if l := in.Spec.LoadBalancer; l == nil || len(a) > 0 || len(l.Addresses) > 0 {
		return nil
	}
	return problem.Newf(problem.ExitConfig, choosingAddresses, "name free addresses of the network of the hosts, such as "+addressesFlag+" 192.168.1.240-192.168.1.250; nothing was changed",
		"the Installer of this bundle leaves the addresses of its load balancer to you, and %s is missing", addressesFlag)
}

// Apply returns an Installer with the addresses; the Installer itself if it has no use for them, or they do not fit it.
func (a Addresses) Apply(in *spec.Installer) *spec.Installer {
	if len(a) == 0 || in.Spec.LoadBalancer == nil {
		return in
	}
	if out, err := in.WithLoadBalancerAddresses(a); err == nil {
		return out
	}
	return in
}

// Resolve returns the add-ons of an Installer with the addresses. dataDir is Plinth's data folder on every host.
func (a Addresses) Resolve(in *spec.Installer, dataDir string) ([]addons.AddOn, error) {
	applied := a.Apply(in)
	all, err := addons.Resolve(applied, dataDir)
	if err == nil && applied != in {
		all = addons.WithChosenAddresses(all)
	}
	return all, err
}

// RememberedAddresses returns the addresses that a user has chosen in an earlier run, if it is unfinished, or that the
// cluster on env's host has. The receipt is for a cluster that does not answer, or is not restored yet, and for workers.
func RememberedAddresses(ctx context.Context, env *action.Env, receipt journal.Receipt) Addresses {
	if j := env.Journal(); j != nil {
		if last, ok := j.LastUnfinished(); ok && len(last.Args.LoadBalancer) > 0 {
			return last.Args.LoadBalancer
		}
	}
	client, err := env.KubeClient()
	if err != nil {
		return receipt.LoadBalancer
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	if chosen, err := clusterAddresses(ctx, client); err == nil {
		return chosen
	}
	return receipt.LoadBalancer
}

// clusterTimeout is how long the cluster may take to say its addresses.
const clusterTimeout = 5 * time.Second

// clusterAddresses returns the chosen addresses of the load balancer in a cluster, or kube.ErrNotFound if it has none.
func clusterAddresses(ctx context.Context, client *kube.Client) (Addresses, error) {
	pool, err := client.Get(ctx, kube.Object{APIVersion: addons.AddressPoolAPI, Kind: addons.AddressPoolKind, Namespace: addons.LoadBalancer, Name: addons.AddressPool})
	if err != nil || pool.GetAnnotations()[addons.AddressAnnotation] != addons.AddressesAreChosen {
		return nil, err
	}
	ranges, _, err := unstructured.NestedStringSlice(pool.Object, "spec", "addresses")
	return ranges, err
}
