package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
)

// operation is one upgrade: what is requested, and what is known of this host and its cluster
// before the upgrade changes them.
type operation struct {
	opts   Options
	config config.Config
	opened source.Bundle  // the bundle as the vendor delivered it
	bundle *airgap.Bundle // the same; complete once fetchBundle has run
	plan   planfile.Plan  // of --plan-file

	receipt    journal.Receipt
	installed  *spec.Installer   // of the cluster before the upgrade
	from, to   string            // digests of the bundles before and after; equal if the bundle does not change
	resumed    bool              // a run of the same upgrade is unfinished
	saved      bool              // that run has saved the data of the cluster on this host: k0s may be stopped
	changes    []string          // fields of the Installer that differ, for users
	addresses  desired.Addresses // of the load balancer
	addOns     []addons.AddOn
	dropped    []addons.AddOn // that the new bundle no longer has
	agent      node.Artifact
	recorded   facts.Identity          // what an earlier run recorded of this host
	addressReq facts.AddressRequest    // what the address must satisfy
	address    netip.Addr              // address at which other hosts reach this one
	node       string                  // Kubernetes name of this host
	machineID  string                  // of this host
	facts      map[string]string       // facts on which a plan depends, by the names used in messages
	joining    bool                    // k0s on this host is registered as a controller that has joined the cluster
	snapshot   preflight.FactsSnapshot // facts, stored for later runs
	warnings   []string                // what was skipped or ignored on request, for the receipt
	rolledBack bool                    // the upgrade failed and was rolled back
	nodes      clusterNodes            // of the cluster; zero on a node that another controller upgrades
	nodesErr   error                   // why they cannot be read
	follows    *follower               // another controller coordinates the upgrade; nil on the coordinator

	// Steps for a simulated host; nil for the real ones.
	simulate         func(env *action.Env) ([]step.Step, error)
	simulateRollback func(env *action.Env, r plan.Reversal) ([]step.Step, error)
	records          plan.Records
}

// inspect reads the state of earlier runs and refuses an upgrade that cannot be done.
func (o *operation) inspect(ctx context.Context, env *action.Env) (err error) {
	if o.receipt, err = env.RequireInstalled("upgrade"); err != nil {
		return err
	}
	if err := o.checkRuns(env); err != nil {
		return err
	}
	if err := o.inspectHost(env, preflight.GatherBasic(ctx, env)); err != nil {
		return err
	}
	o.readCluster(ctx, env)
	if err := o.readInstalled(ctx, env); err != nil {
		return err
	}
	if err := o.checkBundle(env); err != nil {
		return err
	}
	if !o.hasBegun() && o.follows == nil { // else k0s may be stopped, and the same was checked before
		if err := o.checkCluster(ctx, env); err != nil {
			return err
		}
	}
	if err := o.resolveAddOns(ctx, env); err != nil {
		return err
	}
	if o.dropped, err = o.droppedAddOns(env.DataDir); err != nil {
		return err
	}
	if o.agent, err = env.AgentArtifact(); err != nil {
		return err
	}
	if o.follows == nil {
		if err := o.inspectNodes(ctx, env); err != nil {
			return err
		}
	}
	return env.NoteForeignProgram(o.agent)
}

// resolveAddOns sets the add-ons of the new bundle, with the addresses of its load balancer. A node that another one
// upgrades does not know those that the upgrade brings, and installs no add-ons.
func (o *operation) resolveAddOns(ctx context.Context, env *action.Env) (err error) {
	in := o.config.Installer
	if o.follows != nil {
		o.addresses = desired.RememberedAddresses(ctx, env, o.receipt)
	} else if o.addresses, err = desired.ChooseAddresses(ctx, env, in, o.receipt, o.opts.Addresses); err == nil {
		err = o.addresses.Require(in)
	}
	if err != nil {
		return err
	}
	if len(o.opts.Addresses) > 0 {
		o.changes = append(o.changes, "the load balancer gets the addresses "+strings.Join(o.addresses, ", "))
	}
	o.addOns, err = o.addresses.Resolve(in, env.DataDir)
	return err
}

// readCluster reads the nodes of the cluster and the record of its last upgrade. An unfinished upgrade to the same bundle
// that another controller has begun is resumed here.
func (o *operation) readCluster(ctx context.Context, env *action.Env) {
	if o.follows != nil {
		return
	}
	o.nodes, o.nodesErr = readNodes(ctx, env)
	r := o.nodes.record
	if o.nodes.takeOver = r.Active() && r.To == o.to && r.Coordinator != o.node; o.nodes.takeOver {
		o.resumed = true
		env.Note(fmt.Sprintf("note: %s is not finished; this host finishes it", r))
	}
}

// hasBegun reports whether the upgrade may have changed what runs: on this host before, or on the host whose upgrade this one
// finishes. A run that has failed earlier has only left its record.
func (o *operation) hasBegun() bool {
	return o.resumed && (o.saved || o.nodes.takeOver || o.from == o.to)
}

// checkRuns refuses an upgrade while another run is unfinished.
func (o *operation) checkRuns(env *action.Env) error {
	j := env.Journal()
	if why, fix := desired.RunRefusal(env.Host, env.DataDir, j); why != "" {
		return problem.Newf(problem.ExitUsage, "upgrade", fix+"; nothing was changed", "%s", why)
	}
	last, ok := j.LastUnfinished()
	if !ok {
		return nil
	}
	doing := last.DescribeUnfinished()
	switch {
	case last.Verb == Verb && last.Args.Bundle == o.to:
		o.resumed = true
		return nil
	case last.Verb == DeliverVerb: // it has changed nothing that runs
		return nil
	case last.Verb == Verb:
		return problem.Newf(problem.ExitUsage, "upgrade", "finish it with the bundle "+last.Args.Bundle+", or roll it back: sudo plinth upgrade --rollback; nothing was changed", "%s", doing)
	case last.Verb == RollbackVerb: // only in a plan: else finishRollback has finished it
		return problem.Newf(problem.ExitUsage, "upgrade", "finish it first: sudo plinth upgrade --rollback; nothing was changed", "%s", doing)
	}
	return problem.Newf(problem.ExitUsage, "upgrade", "finish it first: run the same `plinth "+last.Command()+"` again; nothing was changed", "%s", doing)
}

// inspectHost refuses a host that is not the one on which the cluster was installed, and sets the facts
// on which the steps depend.
func (o *operation) inspectHost(env *action.Env, found facts.Facts) (err error) {
	o.recorded = desired.RecordedIdentity(env.Journal(), o.receipt)
	if err := preflight.CheckIdentity("upgrade", found, o.recorded); err != nil {
		return err
	}
	if o.addressReq, err = (preflight.AddressFlags{}).Request("upgrade", found, o.recorded); err != nil {
		return err
	}
	if o.joining, err = (k0s.Service{Host: env.Host, Worker: o.receipt.Role == token.Worker}).RegisteredToJoin(); err != nil {
		return err
	}
	if at, err := found.Network.ChooseAddress(o.addressReq); err == nil { // else runPreflights reports why
		found.Network.NodeAddress = at.Address
	}
	o.setFacts(found)
	return nil
}

// setFacts sets the fields on which the steps depend.
func (o *operation) setFacts(found facts.Facts) {
	o.address, o.node, o.machineID = found.Network.NodeAddress, strings.ToLower(found.Hostname), found.MachineID
	o.facts = planfile.HostFacts(found, o.receipt.Bundle)
}

// readInstalled reads the Installer of the cluster before the upgrade. A resumed run finds it in the
// snapshot, because the documents of the new bundle may have replaced it.
func (o *operation) readInstalled(ctx context.Context, env *action.Env) error {
	dir, err := o.findFrom(env)
	if err != nil {
		return err
	}
	if o.installed = desired.ReadInstalledInstaller(ctx, env.Host, dir); o.installed == nil {
		return unreadable(desired.BundleCacheDir(dir))
	}
	return nil
}

// findFrom sets the bundle before the upgrade and returns the data folder with its documents.
func (o *operation) findFrom(env *action.Env) (dataDir string, err error) {
	o.from = o.receipt.Bundle
	if !o.resumed {
		return env.DataDir, nil
	}
	s, ok, err := plan.FindSnapshot(env.Host, env.DataDir)
	if err != nil || !ok || s.To != o.to {
		return env.DataDir, err
	}
	o.from, o.saved = s.From, s.Data != nil
	return s.FilesDir(env.DataDir), nil
}

// checkCluster refuses a cluster that does not answer, that this version of Plinth cannot upgrade, or that another
// command upgrades.
func (o *operation) checkCluster(ctx context.Context, env *action.Env) error {
	client, err := env.KubeClient()
	ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	for _, check := range []func(context.Context, *kube.Client) error{o.checkRecord, o.checkAPIs} {
		if err == nil {
			err = check(ctx, client)
		}
	}
	if err == nil {
		err = o.checkDeployed(ctx, env)
	}
	if err == nil || problem.ExitCode(err) != problem.ExitInternal {
		return err
	}
	return problem.New(problem.ExitUsage, "upgrade", fmt.Errorf("the cluster does not answer: %s", problem.ExplainConnection(err)), "check it with: plinth status; nothing was changed")
}

// droppedAddOns returns the installed add-ons that the new Installer does not have.
func (o *operation) droppedAddOns(dataDir string) (dropped []addons.AddOn, err error) {
	all, err := addons.All()
	if err != nil {
		return nil, err
	}
	before, _ := addons.Resolve(o.installed, dataDir) // without those that this version of Plinth does not know
	charts, err := addons.Charts(o.installed)
	if err != nil {
		return nil, err
	}
	installed := o.receipt.AddOns
	if len(installed) == 0 { // the receipt of a controller that has joined has none
		for _, a := range slices.Concat(before, charts) {
			if !slices.ContainsFunc(installed, func(was journal.AddOn) bool { return was.Name == a.Name }) {
				installed = append(installed, journal.AddOn{Name: a.Name, Namespace: a.Namespace, External: a.External})
			}
		}
	}
	for _, was := range installed {
		isIt := func(a addons.AddOn) bool { return a.Name == was.Name }
		if slices.ContainsFunc(o.addOns, isIt) {
			continue
		}
		known := slices.Concat(before, charts, all)
		if i := slices.IndexFunc(known, isIt); i >= 0 {
			a := known[i]
			a.Namespace = was.Namespace
			dropped = append(dropped, a)
		}
	}
	return dropped, nil
}

// steps returns the steps of the upgrade on env's host.
func (o *operation) steps(ctx context.Context, env *action.Env) ([]step.Step, error) {
	if o.simulate != nil {
		return o.simulate(env)
	}
	if o.follows != nil {
		return desired.UpgradeNodeSteps(ctx, o.target(env), o.bundle, o.config, o.transition(env))
	}
	t := o.transition(env)
	var err error
	if t.Others, err = o.nodes.otherNodes(env, t.Health, o.newNodeDriver()); err != nil {
		return nil, err
	}
	t.TakeOver = o.nodes.takeOver
	return desired.UpgradeSteps(ctx, o.target(env), o.bundle, o.config, t)
}

// target returns the description of env's host that the steps need.
func (o *operation) target(env *action.Env) desired.Target {
	podCIDR := netip.MustParsePrefix(o.config.Installer.Spec.Network.PodCIDR) // lint has parsed it
	t := desired.Target{Host: env.Host, Journal: env.Journal(), Now: env.Now, DataDir: env.DataDir, Node: o.node, Address: o.address, API: o.receipt.API,
		AddOns: o.addOns, Cleanup: env.CleanupScope(podCIDR), Agent: o.agent, Worker: o.receipt.Role == token.Worker, Joining: o.joining,
		Warn: func(text string) { env.Note("warning: " + text) }} // the status shows what is not ready
	if o.follows != nil {
		t.Origin = o.follows.origin
	}
	if o.follows != nil && o.config.Trust.Verified {
		t.Vendor = desired.VendorSignature{Signature: o.follows.origin.Signature, Key: o.config.Trust.Key}
	}
	return t
}

// transition returns the move from the installed bundle to the new one.
func (o *operation) transition(env *action.Env) plan.Transition {
	return plan.Transition{From: o.from, To: o.to, Name: o.receipt.Name, Versions: o.receipt.Versions, Dropped: o.dropped,
		Receipt: journal.ReceiptPath(env.DataDir), Health: o.health(env), Follows: o.follows != nil}
}

// health returns the comparison of the cluster with its state before the upgrade.
func (o *operation) health(env *action.Env) plan.Health {
	h := clusterHealth{env: env, node: o.node, address: o.address.String(), before: o.receipt.Console, dropped: slices.Concat(o.dropped, externals(o.addOns)), charts: externals(o.addOns), skip: o.nodes.skip}
	if o.config.Installer.Spec.MetricsServer.Disabled && !o.installed.Spec.MetricsServer.Disabled {
		h.removed = []string{plan.MetricsServer}
	}
	if k := o.config.Installer.Spec.Kotsadm; k != nil {
		h.after = journal.Console{Namespace: k.Namespace, Port: k.UIBindPort}
	}
	return h
}

// externals returns the charts of the vendor among add-ons.
func externals(all []addons.AddOn) []addons.AddOn {
	return slices.DeleteFunc(slices.Clone(all), func(a addons.AddOn) bool { return !a.External })
}

// isRecorded reports whether the receipt of this host names this bundle, and no run is unfinished.
func (o *operation) isRecorded() bool {
	return !o.resumed && desired.IsRecorded(o.receipt, digest.Digest(o.to))
}

// isUpToDate reports whether the cluster is already in the state that the bundle defines.
func (o *operation) isUpToDate(ctx context.Context, env *action.Env) (bool, error) {
	if !o.isRecorded() || o.opts.PlanFile != "" || len(o.opts.IgnorePreflights) > 0 {
		return false, nil
	}
	steps, err := o.steps(ctx, env)
	if err != nil {
		return false, err
	}
	todo, err := env.StepRunner(Verb, nil).Plan(ctx, steps)
	return err == nil && plan.CountNeeded(todo) == 0, err
}

// verifyPlan verifies that the steps are those of the plan file, if there is one.
func (o *operation) verifyPlan(env *action.Env, steps []step.Planned) error {
	if !o.opts.Plan && o.opts.PlanFile == "" {
		return nil
	}
	return o.plan.Verify(o.planFacts(), *o.journalArgs(env, 0), env.DataDir, steps)
}

// planFacts returns the facts on which a plan depends, by the names used in messages: those of the host, and what the upgrade
// does with the other nodes, which neither its arguments nor its steps contain.
func (o *operation) planFacts() map[string]string {
	depends := maps.Clone(o.facts)
	var names []string
	for _, b := range o.nodes.batches {
		names = append(names, b.Names())
	}
	if len(names) > 0 {
		depends["nodes after this one"] = strings.Join(names, ", ")
		depends["pods are moved before k0s is restarted"] = strconv.FormatBool(o.newNodeDriver().drain)
	}
	return depends
}

// runPreflights runs the host preflights and stores what they found. It returns an error when a check failed.
func (o *operation) runPreflights(ctx context.Context, env *action.Env) (*hostpreflight.Report, error) {
	want, err := desired.UpgradeRequirements(ctx, o.target(env), o.bundle, o.addresses.Apply(o.config.Installer), o.follows != nil || len(o.nodes.batches) > 0)
	if err != nil {
		return nil, err
	}
	want.Role, want.Sources, want.Recorded, want.Address = hostpreflight.Role(o.receipt.Role), o.opened.FetchURLs(), o.recorded, o.addressReq
	checked, err := preflight.CheckHost(ctx, env, "upgrade", o.config.Installer, preflight.Options{Requirements: want, Ignore: o.opts.IgnorePreflights, Journal: env.Journal()})
	if checked.Report != nil {
		o.snapshot, o.warnings = checked.Snapshot, append(o.warnings, checked.Warnings...)
		o.setFacts(checked.Facts)
	}
	return checked.Report, err
}

// confirm asks before the first change. It names what changes, and the step at which an unfinished
// upgrade resumes.
func (o *operation) confirm(ctx context.Context, env *action.Env, todo []step.Planned) error {
	if last, ok := UnfinishedRun(env.Journal()); ok {
		env.Note(fmt.Sprintf("resuming the upgrade started at %s, which stopped at %s", last.StartedAt.Format(time.RFC3339), last.ReachedStep()))
	}
	question := ""
	if o.opts.Install {
		question = fmt.Sprintf("This host already has the cluster %s. This bundle changes it, so this is an upgrade.\n", o.receipt.Name)
	}
	if o.nodes.takeOver {
		question += fmt.Sprintf("%s is not finished, and node %s does not run it any more. This host takes it over.\n", o.nodes.record, o.nodes.record.Coordinator)
	}
	question += describeChanges(o.changes) + describeNodes(o.nodes.batches, o.newNodeDriver().drain)
	return env.Confirm(ctx, question+fmt.Sprintf("Pods keep running, except those that change; the Kubernetes API is away for some seconds. If a step fails, the state before is restored.\n"+
		"Upgrade %s (%d of %d steps to do)?", o.receipt.Name, plan.CountNeeded(todo), len(todo)))
}

// describeChanges returns a line for each change; "" for none.
func describeChanges(changes []string) (text string) {
	const most = 12
	for i, c := range changes {
		if i == most {
			return text + fmt.Sprintf("  and %d more changes\n", len(changes)-most)
		}
		text += "  " + c + "\n"
	}
	return text
}

// fetchBundle downloads what the bundle omits and this host does not have, and verifies every byte of the
// bundle before the first change.
func (o *operation) fetchBundle(ctx context.Context, env *action.Env) (err error) {
	o.bundle, err = o.opened.FetchVerified(ctx, env, Verb, func(ctx context.Context, b *airgap.Bundle) ([]ocispec.Descriptor, error) {
		return desired.MissingBlobs(ctx, env.Host, b)
	})
	if err == nil {
		err = o.stage(ctx, env)
	}
	return err
}

// journalArgs returns the arguments of this run, with the number of steps to apply.
func (o *operation) journalArgs(_ *action.Env, count int) *journal.Args {
	return &journal.Args{Cluster: o.receipt.Name, Bundle: o.to, From: o.from, PodCIDR: o.config.Installer.Spec.Network.PodCIDR, APIAddress: o.receipt.API, LoadBalancer: o.addresses,
		Node: o.node, MachineID: o.machineID, Address: o.address.String(), Facts: o.snapshot.Digest.String(), Steps: count,
		Plan: o.plan.Digest(), OtherMinor: spec.KubernetesMinor(o.installed.Spec.K0s.Version) != spec.KubernetesMinor(o.config.Installer.Spec.K0s.Version)}
}

// storeFacts stores the facts of the host for later runs.
func (o *operation) storeFacts(env *action.Env) error { return o.snapshot.Write(env) }

// writeReceipt records what is installed now, and discards the fetched files.
func (o *operation) writeReceipt(env *action.Env) error {
	r, err := desired.NewReceipt(o.config.Installer, o.receipt, env.Now())
	if err != nil {
		return err
	}
	r.Role, r.Node, r.MachineID, r.Address, r.API = o.receipt.Role, o.node, o.machineID, o.address.String(), o.receipt.API
	r.LoadBalancer = o.addresses
	r.Bundle, r.Facts = o.to, cmp.Or(o.snapshot.Digest.String(), o.receipt.Facts)
	r.Warnings, r.Vendor = o.config.Trust.AppendWarning(o.warnings), source.VendorRecord(o.config.Trust)
	for _, part := range o.addOns {
		if o.follows != nil && len(o.receipt.AddOns) == 0 { // the receipt of a join has none
			break
		}
		r.AddOns = append(r.AddOns, journal.AddOn{Name: part.Name, Version: part.Version, Namespace: part.Namespace, External: part.External})
	}
	return errors.Join(journal.WriteReceipt(env.Host, env.DataDir, r), source.DiscardFetched(env))
}
