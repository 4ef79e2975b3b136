package install

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/planfile"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// operation is one install: what is requested, and what is known of this host
// before the install changes it.
type operation struct {
	opts   Options
	config config.Config
	opened source.Bundle  // the bundle as the vendor delivered it
	bundle *airgap.Bundle // the same; complete once fetchBundle has run
	args   journal.Args   // arguments, as the journal stores them
	plan   planfile.Plan  // of --plan-file

	receipt      journal.Receipt      // zero when nothing is installed
	recorded     facts.Identity       // what an earlier run recorded of this host; zero for none
	addressReq   facts.AddressRequest // what the address must satisfy
	address      netip.Addr           // address at which other hosts reach this one
	node         string               // Kubernetes name of this host
	machineID    string               // of this host
	apiAddress   string               // additional name or address of the Kubernetes API; "" for none
	addresses    desired.Addresses    // of the load balancer
	addOns       []addons.AddOn
	warnings     []string // what was skipped or ignored on request, for the receipt
	tolerated    []string // what failed or was lost, and may be repaired later: not for the receipt
	agent        node.Artifact
	firewall     preflight.Firewall      // how the firewalls of this host are configured
	facts        map[string]string       // facts on which a plan depends, by the names used in messages
	snapshot     preflight.FactsSnapshot // facts, stored for later runs
	retainedData bool                    // an earlier reset retained data in the data folder
	rolledBack   bool                    // this run rolled an unfinished install back

	restored  *Restoration // what is restored; nil for an install
	candidate Candidate    // what restored was compared with
	ended     bool         // an unfinished restore has done everything, and only its end is missing
}

// verb returns the name of the command.
func (o *operation) verb() string {
	if o.restored != nil {
		return restoreVerb
	}
	return "install"
}

// target returns the description of env's host that the steps of an install need.
func (o *operation) target(env *action.Env) desired.Target {
	podCIDR := netip.MustParsePrefix(o.config.Installer.Spec.Network.PodCIDR) // lint has parsed it
	return desired.Target{Host: env.Host, Journal: env.Journal(), Now: env.Now, DataDir: env.DataDir, Node: o.node, Address: o.address, API: o.apiAddress,
		AddOns: o.addOns, Cleanup: env.CleanupScope(podCIDR), Agent: o.agent, Firewall: o.firewall.State,
		Warn: func(text string) {
			o.tolerated = append(o.tolerated, text)
			env.Note("warning: " + text)
		}}
}

// inspect reads the state of earlier runs, compares the host with it and checks the
// version gate. It gathers only the facts that need no network requests.
func (o *operation) inspect(ctx context.Context, env *action.Env) (err error) {
	var installed bool
	if o.receipt, installed, err = journal.ReadReceipt(env.Host, env.DataDir); err != nil {
		return err
	}
	if why, fix := desired.InstallRefusal(env.Host, env.DataDir, env.Journal(), o.receipt); why != "" {
		return problem.Newf(problem.ExitUsage, "install", fix+"; nothing on this host was changed", "%s", why)
	}
	if err := o.inspectHost(env, preflight.GatherBasic(ctx, env)); err != nil {
		return err
	}
	if installed {
		if err := o.config.CheckInstalled(o.receipt); err != nil {
			return err
		}
	}
	if err := o.resolveAPIAddress(ctx, env.Journal()); err != nil {
		return err
	}
	if err := o.inspectFirewall(env); err != nil {
		return err
	}
	notice, warning, err := o.config.CheckVersionGate(!installed && !o.consoleExists(ctx, env), o.opts.SkipKotsCheck)
	if err != nil {
		return err
	}
	if notice != "" {
		env.Note(notice)
	}
	if warning != "" {
		o.warnings = append(o.warnings, warning)
	}
	return o.resolveParts(ctx, env)
}

// resolveParts sets the add-ons and the agent that the steps install.
func (o *operation) resolveParts(ctx context.Context, env *action.Env) (err error) {
	in := o.config.Installer
	if o.addresses, err = desired.ChooseAddresses(ctx, env, in, o.receipt, o.opts.Addresses); err != nil {
		return err
	}
	if err := o.addresses.Require(in); err != nil {
		return err
	}
	o.args.LoadBalancer = o.addresses
	if o.addOns, err = o.addresses.Resolve(in, env.DataDir); err != nil {
		return err
	}
	if o.agent, err = env.AgentArtifact(); err != nil {
		return err
	}
	return env.NoteForeignProgram(o.agent)
}

// inspectFirewall finds out whether the firewalls of the host get rules; later runs keep those of earlier ones.
func (o *operation) inspectFirewall(env *action.Env) (err error) {
	last, _ := env.Journal().LastRun(o.verb())
	o.firewall, err = preflight.NewFirewall(o.verb(), cmp.Or(o.opts.ConfigureFirewall, last.Args.Firewall, o.receipt.Firewall), env.Journal())
	o.args.Firewall = o.firewall.State.Request
	return err
}

// describeChange returns the question before the first change; verb begins it: "Install".
func (o *operation) describeChange(verb string, todo []step.Planned) string {
	firewalls := o.firewall.State.Names()
	if firewalls != "" {
		firewalls = ", with rules for the cluster in " + firewalls
	}
	return fmt.Sprintf("%s %s on this host (%s, %d of %d steps to do%s)?", verb, o.config.Installer.Metadata.Name, o.address, plan.CountNeeded(todo), len(todo), firewalls)
}

// inspectHost refuses a host that is not the one on which an earlier run began, and sets
// the facts on which a list of steps depends.
func (o *operation) inspectHost(env *action.Env, found facts.Facts) (err error) {
	o.recorded = desired.RecordedIdentity(env.Journal(), o.receipt)
	if err := preflight.CheckIdentity(o.verb(), found, o.recorded); err != nil {
		return err
	}
	if o.addressReq, err = o.opts.NodeAddress.Request(o.verb(), found, o.recorded); err != nil {
		return err
	}
	if at, err := found.Network.ChooseAddress(o.addressReq); err == nil { // else runPreflights reports why
		found.Network.NodeAddress = at.Address
	}
	o.setFacts(found)
	return nil
}

// runPreflights runs the host preflights and stores what they found. It returns an
// error when a check failed.
func (o *operation) runPreflights(ctx context.Context, env *action.Env) (*hostpreflight.Report, error) {
	want := desired.InstallRequirements(o.bundle, o.addresses.Apply(o.config.Installer), env.Journal(), env.DataDir)
	want.Sources, want.Recorded, want.Address = o.opened.FetchURLs(), o.recorded, o.addressReq
	o.firewall.SetRequirements(&want)
	if o.restored != nil {
		o.restored.addRequirements(&want)
	}
	checked, err := preflight.CheckHost(ctx, env, o.verb(), o.config.Installer, preflight.Options{Requirements: want, Ignore: o.opts.IgnorePreflights, Journal: env.Journal()})
	if checked.Report != nil {
		o.snapshot, o.warnings = checked.Snapshot, append(o.warnings, checked.Warnings...)
		o.setFacts(checked.Facts)
	}
	if err == nil {
		err = o.firewall.Choose(o.verb(), checked.Facts, want)
	}
	return checked.Report, err
}

// setFacts sets the fields on which the steps and a plan depend.
func (o *operation) setFacts(found facts.Facts) {
	o.address, o.node, o.machineID = found.Network.NodeAddress, strings.ToLower(found.Hostname), found.MachineID
	o.facts = planfile.HostFacts(found, o.receipt.Bundle)
}

// verifyPlan verifies that the steps are those of the plan file, if there is one.
func (o *operation) verifyPlan(env *action.Env, steps []step.Planned) error {
	err := o.plan.Verify(o.facts, o.args, env.DataDir, steps)
	o.args.Plan = o.plan.Digest()
	return err
}

// resolveAPIAddress sets the additional API address: the requested one, or the one of
// the run that this one resumes or repeats.
func (o *operation) resolveAPIAddress(ctx context.Context, j *journal.Journal) error {
	if o.opts.APIAddress != "" {
		if err := preflight.ValidateAPIAddress(ctx, o.verb(), o.opts.APIAddress); err != nil {
			return err
		}
	}
	last, _ := j.LastRun(o.verb())
	o.apiAddress = cmp.Or(o.opts.APIAddress, last.Args.APIAddress, o.receipt.API)
	o.args.APIAddress = o.apiAddress
	return nil
}

// consoleExists reports whether the cluster on this host, if there is one, already runs
// KOTS.
func (o *operation) consoleExists(ctx context.Context, env *action.Env) bool {
	k := o.config.Installer.Spec.Kotsadm
	if k == nil {
		return false
	}
	client, err := env.KOTS(k.Namespace)
	if err != nil {
		return false
	}
	console, err := client.ConsoleState(ctx)
	return err == nil && console.Version != ""
}
