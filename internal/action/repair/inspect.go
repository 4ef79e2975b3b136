package repair

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/token"
)

// inspect chooses the address, and refuses a host whose node cannot get it in place. If the host still has the address of
// its node, it checks no more.
func (o *operation) inspect(ctx context.Context, env *action.Env) (err error) {
	if o.receipt, err = env.RequireInstalled(doing); err != nil {
		return err
	}
	if err := o.checkRuns(env); err != nil {
		return err
	}
	o.recorded = desired.RecordedIdentity(env.Journal(), o.receipt)
	found := o.gather(ctx, env)
	o.network = found.Network
	others := o.recorded // another name or machine id has another way back
	others.Address = netip.Addr{}
	if err := preflight.CheckIdentity(doing, found, others); err != nil {
		return err
	}
	if err := o.chooseAddress(env, found.Network); err != nil || o.unchanged {
		return err
	}
	if err := o.checkRole(ctx, env); err != nil {
		return err
	}
	if o.simulate == nil {
		var ok bool
		if o.installed, ok = desired.ReadInstalledBundle(ctx, env.Host, env.DataDir); !ok {
			return problem.Newf(problem.ExitUsage, doing, "check the folder "+desired.BundleCacheDir(env.DataDir)+"; nothing was changed", "the documents of the installed bundle cannot be read")
		}
	}
	if err := o.checkNetworks(found.Network); err != nil {
		return err
	}
	return checkDisks(found, env.DataDir)
}

// checkRuns refuses a repair while another run is unfinished.
func (o *operation) checkRuns(env *action.Env) error {
	if why, fix := desired.RunRefusal(env.Host, env.DataDir, env.Journal()); why != "" {
		return problem.New(problem.ExitUsage, doing, errors.New(why), fix+"; nothing was changed")
	}
	if last, ok := env.Journal().LastUnfinished(); ok && last.Verb != Verb {
		return problem.New(problem.ExitUsage, doing, errors.New(last.DescribeUnfinished()),
			"give the host its former address for a moment, and run the same `plinth "+last.Command()+"` again; nothing was changed")
	}
	return nil
}

// unfinishedAddress returns the address of an unfinished repair; ok is false if there is none.
func unfinishedAddress(env *action.Env) (address netip.Addr, ok bool) {
	last, ok := env.Journal().LastUnfinished()
	if !ok || last.Verb != Verb {
		return address, false
	}
	address, _ = netip.ParseAddr(last.Args.Address)
	return address, true
}

// chooseAddress sets the address of the node: the requested one, that of the run which this one resumes, the recorded one
// if the host still has it, or the one that an install would choose.
func (o *operation) chooseAddress(env *action.Env, n facts.Network) error {
	req, err := o.opts.NodeAddress.Request(doing, facts.Facts{Network: n}, facts.Identity{})
	if err != nil {
		return err
	}
	resumed, unfinished := unfinishedAddress(env)
	switch {
	case req.IsExplicit():
	case unfinished && n.HasAddress(resumed):
		req.Address = resumed
	case n.HasAddress(o.recorded.Address):
		o.address, o.unchanged = o.recorded.Address, !unfinished
		o.choice = o.address.String() + ", as before"
		return nil
	}
	at, err := n.ChooseAddress(req)
	if err != nil {
		return problem.New(problem.ExitPreflight, doing, err, "name an IPv4 address of this host with --address ADDRESS or --network-interface NAME: ip -brief address lists them; nothing was changed")
	}
	o.address, o.choice = at.Address, fmt.Sprintf("%s, %s", at, at.Reason)
	o.unchanged = o.address == o.recorded.Address && !unfinished
	var others []string
	for _, other := range at.Others {
		others = append(others, other.String())
	}
	if others != nil {
		o.choice += "; other addresses: " + strings.Join(others, ", ") + " (choose with --address)"
	}
	return nil
}

// checkRole refuses every host but the only controller of a cluster: the others get their address when they join.
func (o *operation) checkRole(ctx context.Context, env *action.Env) error {
	refuse := func(hint, text string, args ...any) error {
		return problem.Newf(problem.ExitUsage, doing, hint+"; nothing was changed", text, args...)
	}
	const reset = "sudo plinth reset node, then join again with a token of a controller: plinth token create --role "
	if o.receipt.Role == token.Worker {
		return refuse("let it leave the cluster: "+reset+"worker", "this host is a worker: its address changes when it joins")
	}
	members, err := o.members(ctx, env)
	if err != nil {
		return refuse("check k0s: sudo journalctl -u "+o.recorded.Unit, "the members of etcd cannot be read, so it is not known whether this is the only controller: %w", err)
	}
	var names []string
	for _, m := range members {
		if strings.ToLower(m.Name) != o.receipt.Node { // k0s names a member as its host, with capitals
			names = append(names, m.Name+" at "+m.Address)
		}
	}
	switch len(names) {
	case 0:
		return nil
	case 1:
		return refuse("without this host etcd has no quorum: give it its former address "+o.receipt.Address+" and add a third controller; then "+reset+"controller",
			"the cluster has another controller: %s", names[0])
	}
	return refuse("let it leave the cluster: "+reset+"controller", "the cluster has other controllers: %s", strings.Join(names, ", "))
}

// checkNetworks refuses an address that pods or services may have, and that of the API's load balancer.
func (o *operation) checkNetworks(n facts.Network) error {
	refuse := func(text string, args ...any) error {
		return problem.Newf(problem.ExitPreflight, doing, "give the host an address in another network, or name another one of its addresses with --address; nothing was changed", text, args...)
	}
	if o.address.String() == o.receipt.API {
		return refuse("%s is the additional address of the API", o.address)
	}
	at := hostNetwork(n, o.address)
	network := o.installed.Installer.Spec.Network
	for _, n := range []struct{ field, cidr string }{{"podCIDR", network.PodCIDR}, {"serviceCIDR", network.ServiceCIDR}} {
		if cidr, err := netip.ParsePrefix(n.cidr); err == nil && cidr.Overlaps(at) {
			return refuse("%s overlaps with spec.network.%s of the cluster, %s", at, n.field, cidr)
		}
	}
	return nil
}

// hostNetwork returns the address with the length of its network on this host.
func hostNetwork(n facts.Network, address netip.Addr) netip.Prefix {
	for _, i := range n.Interfaces {
		for _, p := range i.Addresses {
			if p.Addr() == address {
				return p
			}
		}
	}
	return netip.PrefixFrom(address, address.BitLen())
}
