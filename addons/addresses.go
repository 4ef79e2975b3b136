package addons

import "maps"

// LoadBalancer is the name of the add-on that gives addresses to services.
const LoadBalancer = "load-balancer"

// The object in the cluster that has the addresses of the load balancer, and its annotation if a user has chosen them. It
// is the record by which later installs and upgrades keep them.
const (
	AddressPoolAPI     = "metallb.io/v1beta1"
	AddressPoolKind    = "IPAddressPool"
	AddressPool        = "default"
	AddressAnnotation  = "plinth.dev/addresses"
	AddressesAreChosen = "chosen"
)

// WithChosenAddresses returns the add-ons of an Installer whose load balancer has addresses that a user has chosen: the
// cluster records that.
func WithChosenAddresses(all []AddOn) []AddOn {
	out := make([]AddOn, len(all))
	for i, a := range all {
		if a.Name == LoadBalancer && !a.External {
			a.Values = maps.Clone(a.Values)
			a.Values["chosen"] = true
		}
		out[i] = a
	}
	return out
}
