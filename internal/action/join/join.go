// Package join makes a host a node of an existing cluster. Before it changes the host,
// it authenticates the cluster with the token and compares the host with it.
package join

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
)

// Options are the options of a join.
type Options struct {
	Token            string   // join token as the user pasted it; secret
	Bundle           string   // file; "" to fetch missing content from the cluster
	Role             string   // role that the token must have; "" for any
	IgnorePreflights []string // ids of checks that may fail
	Plan             bool     // only return the plan
	Trace            string   // file for the trace of the run; "" for none

	NodeAddress       preflight.AddressFlags // how the address of this host is chosen
	ConfigureFirewall string                 // networks of the nodes, for rules in the firewalls of this host; preflight.OwnNetwork for that of its address, "" for none
}

// Result is the result of a join.
type Result struct {
	Changed    bool                  `json:"changed"` // false when there was nothing to do
	Cluster    string                `json:"cluster,omitempty"`
	Role       string                `json:"role,omitempty"`
	Node       string                `json:"node,omitempty"`
	Mismatches [][3]string           `json:"mismatches,omitempty"` // field, value here, value in the cluster
	Plan       []step.Planned        `json:"plan,omitempty"`       // only with Options.Plan
	Preflights *hostpreflight.Report `json:"preflights,omitempty"`
	Log        string                `json:"log,omitempty"`
	Trace      *action.Trace         `json:"trace,omitempty"`
}

// operation is one join: the token, the cluster, and what is known of this host before
// the join changes it.
type operation struct {
	opts    Options
	token   token.Token
	cluster *agent.Client

	identity    node.Identity // of this host's agent; self-signed until the cluster has admitted the host
	stored      bool          // identity is on the disk
	clusterInfo agent.ClusterInfo
	clockOffset time.Duration           // how far this host's clock is ahead of the cluster's
	receipt     journal.Receipt         // zero when nothing is installed
	vendor      desired.VendorSignature // zero until verifyClusterInfo, and for a bundle accepted with --allow-unsigned
	bundle      *airgap.Bundle          // nil until openBundle
	installer   *spec.Installer
	nodeName    string
	address     netip.Addr
	recorded    facts.Identity       // what an earlier run recorded of this host; zero for none
	addressReq  facts.AddressRequest // what the address must satisfy
	firewall    preflight.Firewall   // how the firewalls of this host are configured
	facts       facts.Facts
	mismatches  [][3]string
	snapshot    preflight.FactsSnapshot // facts, stored for later runs
	warnings    []string
}

// Run makes this host a node of the cluster for which the token is valid. Nothing on the
// host but the log changes until the cluster, the bundle and the host have been verified.
func Run(ctx context.Context, env *action.Env, opts Options) (Result, error) {
	if err := env.RequireHost("join"); err != nil {
		return Result{}, err
	}

	// Decode the token; from here on, the log masks it.
	env.Secrets.Hide(strings.TrimSpace(opts.Token))
	t, err := token.Decode(opts.Token)
	if err != nil {
		return Result{}, refuseJoin(fmt.Errorf("the token is damaged: %w", err), "copy the whole line that `plinth token create` printed")
	}
	for _, secret := range []string{t.Secret, t.Bearer()} {
		env.Secrets.Hide(secret)
	}
	if opts.Role != "" && opts.Role != t.Role {
		return Result{}, refuseJoin(fmt.Errorf("the token is for a %s, but this host should become a %s", t.Role, opts.Role), "create one on a controller: sudo plinth token create --role "+opts.Role)
	}

	// Execute calls the functions of o in this order; they follow in this package.
	o := operation{opts: opts, token: t}
	o.cluster = agent.NewClient(t, o.certificate)
	defer o.close()
	out, err := action.Execute(ctx, env, action.Operation{
		Verb:        "join",
		PlanOnly:    opts.Plan,
		Trace:       opts.Trace,
		Inspect:     o.inspect,       // ask the cluster; compare this host with it
		Preflights:  o.runPreflights, // check the host, and the connections to the controllers
		Steps:       o.steps,         // plan.Join, for this host
		IsRecorded:  o.isRecorded,    // the receipt names this bundle and the host
		Confirm:     o.noteResume,    // joining needs no question: the token is the answer
		JournalArgs: o.journalArgs,   // what a resumed run must repeat
		Prepare:     o.prepare,       // keep the facts and the key of the host for later runs
		Record:      o.writeReceipt,  // what this host is now
	})
	res := Result{Changed: out.Changed, Cluster: o.clusterInfo.Cluster, Role: o.clusterInfo.Role, Node: o.nodeName, Mismatches: o.mismatches, Preflights: out.Preflights, Log: out.Log, Trace: out.Trace}
	if err == nil && opts.Plan {
		res.Plan = out.Planned
	}
	return res, err
}

// close closes the connections to the cluster and the bundle.
func (o *operation) close() {
	o.cluster.Close()
	if o.bundle != nil {
		_ = o.bundle.Close()
	}
}

// refuseJoin returns the problem of a join that the cluster refuses or that does not
// match it. The host was not changed.
func refuseJoin(err error, hint string) error {
	return problem.New(problem.ExitJoin, "join", err, strings.TrimPrefix(hint+"\nnothing on this host was changed", "\n"))
}

// inspect queries the cluster and compares this host with it.
func (o *operation) inspect(ctx context.Context, env *action.Env) (err error) {
	if o.receipt, _, err = journal.ReadReceipt(env.Host, env.DataDir); err != nil {
		return err
	}
	if err := errors.Join(o.checkOtherCluster(env), checkEarlierRuns(env, o.token)); err != nil {
		return err
	}
	found := preflight.GatherBasic(ctx, env)
	o.recorded = desired.RecordedIdentity(env.Journal(), o.receipt)
	if err := preflight.CheckIdentity("join", found, o.recorded); err != nil {
		return err
	}
	if o.addressReq, err = o.opts.NodeAddress.Request("join", found, o.recorded); err != nil {
		return err
	}
	last, _ := env.Journal().LastRun("join")
	if o.firewall, err = preflight.NewFirewall("join", cmp.Or(o.opts.ConfigureFirewall, last.Args.Firewall, o.receipt.Firewall), env.Journal()); err != nil {
		return err
	}
	if _, err := env.Host.ReadFile("/etc/machine-id"); err != nil {
		return problem.New(problem.ExitPreflight, "join", err, "create one with: sudo systemd-machine-id-setup")
	}
	if err := o.readIdentity(env); err != nil {
		return err
	}
	sent := env.Now()
	if o.clusterInfo, err = o.cluster.DescribeCluster(ctx); err != nil {
		return o.explainFailure(ctx, env, err)
	}
	o.clockOffset = clockOffset(sent, env.Now(), o.clusterInfo.Time)
	embedded, err := source.PublicKey("")
	if err != nil {
		return err
	}
	if err := o.verifyClusterInfo(embedded); err != nil {
		return err
	}
	if err := o.openBundle(ctx); err != nil {
		return err
	}
	if o.vendor.Key.IsZero() {
		o.warnings = append(o.warnings, fmt.Sprintf("the origin of bundle %s was not verified, because the cluster was installed with --allow-unsigned", o.token.Bundle))
		env.Note("warning: " + o.warnings[0])
	}
	if err := o.checkSharedConfig(env); err != nil {
		return err
	}
	self, err := env.AgentArtifact()
	if err != nil {
		return err
	}
	return env.NoteForeignProgram(self)
}

// runPreflights verifies that this host differs from all nodes of the cluster, that its
// clock agrees with theirs and that k0s will run on it.
func (o *operation) runPreflights(ctx context.Context, env *action.Env) (*hostpreflight.Report, error) {
	want := desired.JoinRequirements(o.bundle, desired.Addresses(o.clusterInfo.LoadBalancer).Apply(o.installer), env.Journal(), env.DataDir, hostpreflight.Role(o.clusterInfo.Role))
	o.addressReq.Toward = controllerAddresses(o.token.Addresses, o.clusterInfo.Nodes)
	want.Recorded, want.Address = o.recorded, o.addressReq
	o.firewall.SetRequirements(&want)
	vendor, err := config.ParseHostPreflights(o.installer)
	if err != nil {
		return nil, problem.New(problem.ExitConfig, "join", err, "use a newer version of plinth that supports the bundle's Installer")
	}
	found, report, err := preflight.RunChecks(ctx, env, preflight.Options{Requirements: want, VendorPreflights: vendor, Ignore: o.opts.IgnorePreflights, Journal: env.Journal(),
		Peers: func(found facts.Facts) preflight.Peers { return o.peersToCheck(env, found) }})
	if err == nil {
		o.snapshot, err = preflight.NewFactsSnapshot(found)
	}
	if err != nil {
		return nil, err
	}
	o.facts, o.nodeName, o.address = found, strings.ToLower(found.Hostname), found.Network.NodeAddress
	if !o.address.IsValid() {
		return &report, cmp.Or(report.Err("join"), preflight.RequireAddress("join", found))
	}
	var errs []error
	if why := agent.Conflict(o.clusterInfo.Nodes, o.joinRequest(env, found), o.keyPin()); why != "" {
		errs = append(errs, refuseJoin(errors.New(why), "give this host a unique name, machine id and address; after cloning: sudo rm /etc/machine-id && sudo systemd-machine-id-setup"))
	}
	if why := hiddenNodes(o.clusterInfo.Nodes, found.Network, o.nodeName, o.address); len(why) > 0 {
		errs = append(errs, refuseJoin(errors.New(strings.Join(why, "; ")), "remove the address from this host (ip -brief address shows it), or join that node again with another --address"))
	}
	if err := checkClock(o.clockOffset); err != nil {
		errs = append(errs, err)
	} else if o.clockOffset.Abs() > clockWarnOffset {
		env.Note(fmt.Sprintf("warning: this host's clock is %s off the cluster's", o.clockOffset.Round(time.Millisecond)))
	}
	if o.clusterInfo.API != "" {
		if err := preflight.CheckAPIReachable(ctx, o.clusterInfo.API, o.clusterInfo.CA); err != nil {
			unreachable := fmt.Sprintf("this host cannot reach the Kubernetes API at %s: %v", o.clusterInfo.API, err)
			o.warnings = append(o.warnings, unreachable)
			env.Note("warning: " + unreachable)
		}
	}
	for _, id := range report.IgnoredIDs() {
		o.warnings = append(o.warnings, "host preflight "+id+" failed and was ignored on request")
	}
	if err := report.Err("join"); err != nil || len(errs) > 0 {
		return &report, errors.Join(append(errs, err)...)
	}
	return &report, o.firewall.Choose("join", found, want)
}

// joinRequest returns the data with which a host with the facts found asks to join.
func (o *operation) joinRequest(env *action.Env, found facts.Facts) agent.JoinRequest {
	service := k0s.Service{Host: env.Host, Worker: o.isWorker(), JoinsCluster: true}
	return agent.JoinRequest{Node: strings.ToLower(found.Hostname), MachineID: found.MachineID, Address: found.Network.NodeAddress.String(), Fresh: !service.Joined()}
}

// isWorker reports whether this host becomes a worker.
func (o *operation) isWorker() bool { return o.clusterInfo.Role == token.Worker }

// steps returns the steps by which env's host joins.
func (o *operation) steps(ctx context.Context, env *action.Env) ([]step.Step, error) {
	self, err := env.AgentArtifact()
	if err != nil {
		return nil, err
	}
	podCIDR := netip.MustParsePrefix(o.installer.Spec.Network.PodCIDR) // the Installer was parsed
	steps, err := desired.JoinSteps(ctx, desired.Target{Host: env.Host, Journal: env.Journal(), Now: env.Now, DataDir: env.DataDir, Node: o.nodeName, Address: o.address, API: o.clusterInfo.API,
		Cleanup: env.CleanupScope(podCIDR), Agent: self, Worker: o.isWorker(), Joining: true, Vendor: o.vendor, Firewall: o.firewall.State}, o.bundle, o.installer, desired.JoinAccess{Admitter: agentAdmitter{o, env}, APIAccess: o.apiAccess(env)})
	var denied *agent.DeniedError
	if errors.As(err, &denied) { // the token ended while this host was inspected
		err = o.explainFailure(ctx, env, denied)
	}
	return steps, err
}

// apiAccess returns the access of a worker to the Kubernetes API, through a local load
// balancer; nil for a controller.
func (o *operation) apiAccess(env *action.Env) *plan.APIAccess {
	if !o.isWorker() {
		return nil
	}
	var controllers []netip.Addr
	for _, n := range o.clusterInfo.Nodes {
		if addr, err := netip.ParseAddr(firstOrEmpty(n.Addresses)); err == nil && n.Controller {
			controllers = append(controllers, addr)
		}
	}
	return &plan.APIAccess{Files: loadbalancer.SeedFiles(env.DataDir),
		CheckSeed: func() (string, error) { return loadbalancer.SeedOutdated(env.Host, env.DataDir, controllers) },
		Seed: func() error {
			return loadbalancer.SeedControllers(env.Host, env.DataDir, o.clusterInfo.CA, controllers)
		}}
}

func firstOrEmpty(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// isRecorded reports whether the receipt of this host names this bundle and the host.
func (o *operation) isRecorded() bool { return desired.IsRecorded(o.receipt, o.bundle.Digest()) }

// noteResume notes the step at which an unfinished join resumes.
func (o *operation) noteResume(_ context.Context, env *action.Env, _ []step.Planned) error {
	if last, ok := env.Journal().LastRun("join"); ok && last.Unfinished() {
		env.Note(fmt.Sprintf("resuming the join started at %s, which stopped at step %s", last.StartedAt.Format(time.RFC3339), last.ReachedStep()))
	}
	return nil
}

// journalArgs returns the arguments of this run, with the number of steps to apply.
func (o *operation) journalArgs(_ *action.Env, count int) *journal.Args {
	return &journal.Args{Cluster: o.installer.Metadata.Name, Bundle: o.bundle.Digest().String(), PodCIDR: o.installer.Spec.Network.PodCIDR,
		Node: o.nodeName, MachineID: o.facts.MachineID, Address: o.address.String(), Role: o.clusterInfo.Role, CAPin: o.token.Pin, Firewall: o.firewall.State.Request, Facts: o.snapshot.Digest.String(), Steps: count}
}

// prepare stores the facts of the host for later runs, and its key: the token is bound to it, so
// that only this host can resume.
func (o *operation) prepare(env *action.Env) error {
	err := o.snapshot.Write(env)
	if err == nil && !o.stored {
		err = o.identity.Write(env.Host, env.DataDir)
	}
	return err
}

// writeReceipt records what this host is now.
func (o *operation) writeReceipt(env *action.Env) error {
	r, err := desired.NewReceipt(o.installer, o.receipt, env.Now())
	if err != nil {
		return err
	}
	r.Name, r.Role, r.Node, r.API = o.clusterInfo.Cluster, o.clusterInfo.Role, o.nodeName, o.clusterInfo.API
	r.MachineID, r.Address, r.Firewall = o.facts.MachineID, o.address.String(), o.firewall.State.Request
	r.LoadBalancer = o.clusterInfo.LoadBalancer
	r.Bundle, r.Facts, r.Warnings = o.bundle.Digest().String(), o.snapshot.Digest.String(), o.warnings
	r.Vendor = o.vendorRecord()
	return journal.WriteReceipt(env.Host, env.DataDir, r)
}
