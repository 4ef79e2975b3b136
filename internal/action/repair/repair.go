// Package repair gives the node of this host another address, after that of the host has changed.
package repair

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
)

// Options are the options of a repair.
type Options struct {
	NodeAddress preflight.AddressFlags // how the new address is chosen
	Plan        bool                   // only return the plan
}

// Result is the result of a repair. Its JSON format is public.
type Result struct {
	Changed    bool           `json:"changed"` // false when the node has its address
	Node       string         `json:"node"`
	From       string         `json:"from"` // address of the node before
	To         string         `json:"to"`   // address of the node now
	ConsoleURL string         `json:"consoleURL,omitempty"`
	Workers    []string       `json:"workers,omitempty"` // workers of the cluster, which may not know the new address
	API        string         `json:"api,omitempty"`     // additional address of the API, at which workers find this host
	Former     *Former        `json:"former,omitempty"`  // the former address, if this host still has it
	Plan       []step.Planned `json:"plan,omitempty"`    // only with Options.Plan
	Log        string         `json:"log,omitempty"`
}

// Former is an address that the node of this host had, and that the host still has. Its JSON format is public.
type Former struct {
	Address   string `json:"address"` // with the length of its network
	Interface string `json:"interface"`
	// SameNetwork reports whether the new address is in the same network of the same interface: Linux removes it with the
	// former one, unless the interface promotes secondary addresses.
	SameNetwork bool `json:"sameNetwork"`
}

const doing = "change the address of this node"

// Verb is the name of the run in the journal.
const Verb = "repair"

// Run gives the node of this host, the only controller of its cluster, the address that the host has now. Nothing changes
// if the host still has the address of its node, and none is requested.
func Run(ctx context.Context, env *action.Env, opts Options) (Result, error) {
	if err := env.RequireHost("repair the address"); err != nil {
		return Result{}, err
	}
	o := operation{opts: opts, members: action.ReadEtcdMembers, gather: gatherFacts}
	out, err := action.Execute(ctx, env, o.engineOperation())
	res := Result{Changed: out.Changed, Node: o.receipt.Node, From: o.receipt.Address, Log: out.Log, API: o.receipt.API}
	if o.address.IsValid() {
		res.To = o.address.String()
	}
	if opts.Plan {
		res.Plan = out.Planned
	}
	if err != nil || opts.Plan {
		return res, err
	}
	if o.receipt.Console.Port != 0 {
		res.ConsoleURL = desired.ConsoleURL(o.receipt.Console, res.To)
	}
	if out.Changed {
		res.Workers = listWorkers(ctx, env)
		res.Former = findFormer(o.network, o.recorded.Address, o.address)
	}
	return res, nil
}

// findFormer returns the former address of a node on its host; nil if the host has it no more, or the node keeps it.
func findFormer(n facts.Network, former, now netip.Addr) *Former {
	if former == now {
		return nil
	}
	for _, i := range n.Interfaces {
		for _, p := range i.Addresses {
			if p.Addr() == former {
				return &Former{Address: p.String(), Interface: i.Name, SameNetwork: p.Contains(now) && slices.ContainsFunc(i.Addresses, func(a netip.Prefix) bool { return a.Addr() == now })}
			}
		}
	}
	return nil
}

// listWorkers returns the names of the workers of the cluster.
func listWorkers(ctx context.Context, env *action.Env) (names []string) {
	client, err := env.KubeClient()
	if err != nil {
		env.Note("warning: the workers of the cluster cannot be listed: " + err.Error())
		return nil
	}
	records, err := client.NodeRecords(ctx)
	if err != nil {
		env.Note("warning: the workers of the cluster cannot be listed: " + err.Error())
	}
	for _, r := range records.Sorted() {
		if r.Role == token.Worker {
			names = append(names, r.Node)
		}
	}
	return names
}

// operation is one repair.
type operation struct {
	opts    Options
	members func(ctx context.Context, env *action.Env) ([]etcd.Member, error) // of the etcd on this host, whether it runs or not
	gather  func(ctx context.Context, env *action.Env) facts.Facts

	receipt   journal.Receipt
	recorded  facts.Identity // of this host before
	network   facts.Network  // of this host
	installed desired.InstalledBundle
	address   netip.Addr // that the node will have
	choice    string     // it, why this one, and the others
	unchanged bool       // the node has its address

	simulate func(env *action.Env) []step.Step // steps for a simulated host; nil for the real ones
}

// engineOperation returns the repair as action.Execute runs it.
func (o *operation) engineOperation() action.Operation {
	return action.Operation{
		Verb:        Verb,
		PlanOnly:    o.opts.Plan,
		Inspect:     o.inspect, // choose the address; refuse what cannot be repaired in place
		IsUpToDate:  func(context.Context, *action.Env) (bool, error) { return o.unchanged, nil },
		Steps:       o.steps,                      // plan.Readdress, for this host
		IsRecorded:  func() bool { return false }, // the end of a repair that has done all steps is recorded, too
		Confirm:     o.confirm,
		JournalArgs: o.journalArgs,
		Record:      o.writeReceipt,
	}
}

// steps returns the steps of the repair on env's host.
func (o *operation) steps(_ context.Context, env *action.Env) ([]step.Step, error) {
	switch {
	case o.unchanged:
		return nil, nil
	case o.simulate != nil:
		return o.simulate(env), nil
	}
	joined, err := k0s.Service{Host: env.Host}.RegisteredToJoin()
	if err != nil {
		return nil, err
	}
	podCIDR := netip.MustParsePrefix(o.installed.Installer.Spec.Network.PodCIDR) // lint has parsed it
	target := desired.Target{Host: env.Host, Journal: env.Journal(), Now: env.Now, DataDir: env.DataDir, Node: o.receipt.Node, Address: o.address,
		API: o.receipt.API, Joining: joined, Cleanup: env.CleanupScope(podCIDR)}
	return desired.ReaddressSteps(target, o.installed), nil
}

// confirm asks before the first change.
func (o *operation) confirm(ctx context.Context, env *action.Env, todo []step.Planned) error {
	question := fmt.Sprintf("Node %s gets the address %s. It had %s.\n", o.receipt.Node, o.choice, o.receipt.Address) +
		"k0s and all pods on this host restart: the API, the console and the applications do not answer for some minutes.\n" +
		"What others have of the old address stays: DNS names, load balancers, join tokens, copies of the kubeconfig, settings of applications.\n"
	return env.Confirm(ctx, question+fmt.Sprintf("Change the address (%d of %d steps to do)?", plan.CountNeeded(todo), len(todo)))
}

// journalArgs returns the arguments of this run.
func (o *operation) journalArgs(_ *action.Env, count int) *journal.Args {
	args := journal.Args{Cluster: o.receipt.Name, Bundle: o.receipt.Bundle, From: o.receipt.Address, Node: o.receipt.Node, MachineID: o.receipt.MachineID,
		Address: o.address.String(), APIAddress: o.receipt.API, Steps: count}
	if o.installed.Installer != nil {
		args.PodCIDR = o.installed.Installer.Spec.Network.PodCIDR
	}
	return &args
}

// writeReceipt records the address. The agent of this host issues its own certificate for it, within a minute.
func (o *operation) writeReceipt(env *action.Env) error {
	r := o.receipt
	r.Address, r.UpdatedAt = o.address.String(), env.Now().UTC()
	return journal.WriteReceipt(env.Host, env.DataDir, r)
}
