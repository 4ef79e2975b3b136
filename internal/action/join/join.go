// Package join makes a host a node of an existing cluster. Before it changes the host,
// it authenticates the cluster with the token and compares the host with it.
package join

import (
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
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/ui"
)

// Options are the options of a join.
type Options struct {
	Token            string   // join token as the user pasted it; secret
	Bundle           string   // file; "" to fetch missing content from the cluster
	Role             string   // role that the token must have; "" for any
	IgnorePreflights []string // ids of checks that may fail
	Plan             bool     // only return the plan
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
}

// operation is a join of this host.
type operation struct {
	*action.Env
	token   token.Token
	cluster *agent.Client
}

// Run makes this host a node of the cluster for which the token is valid. Nothing on the
// host but the log changes until the cluster, the bundle and the host have been verified.
func Run(ctx context.Context, r *action.Env, req Options) (Result, error) {
	if err := action.RequireRoot("join"); err != nil {
		return Result{}, err
	}
	if err := r.CheckDataDir("join"); err != nil {
		return Result{}, err
	}
	r.Secrets.Hide(strings.TrimSpace(req.Token))
	t, err := token.Decode(req.Token)
	if err != nil {
		return Result{}, refuseJoin(fmt.Errorf("the token is damaged: %w", err), "copy the whole line that `plinth token create` printed")
	}
	for _, secret := range []string{t.Secret, t.Bearer()} {
		r.Secrets.Hide(secret)
	}
	if req.Role != "" && req.Role != t.Role {
		return Result{}, refuseJoin(fmt.Errorf("the token is for a %s, but this host should become a %s", t.Role, req.Role), "create one on a controller: sudo plinth token create --role "+req.Role)
	}
	o := operation{Env: r, token: t, cluster: agent.NewClient(t)}
	defer o.cluster.Close()
	if req.Plan {
		return o.ReadOnly().execute(ctx, req, nil)
	}
	var res Result
	err = r.WithLock(ctx, "join", func(r *action.Env, log *ui.RunLog) error {
		o.Env = r
		res, err = o.execute(ctx, req, log)
		return err
	})
	return res, err
}

// ReadOnly returns a copy of o that cannot change the host.
func (o operation) ReadOnly() operation {
	o.Env = o.Env.ReadOnly()
	return o
}

// refuseJoin returns the problem of a join that the cluster refuses or that does not
// match it. The host was not changed.
func refuseJoin(err error, hint string) error {
	return problem.New(problem.ExitJoin, "join", err, strings.TrimPrefix(hint+"\nnothing on this host was changed", "\n"))
}

// execute verifies the cluster and the host, and runs the steps unless only a plan is
// requested. log is nil for a plan.
func (o operation) execute(ctx context.Context, req Options, log *ui.RunLog) (Result, error) {
	s, err := o.inspect(ctx, req)
	res := Result{Cluster: s.clusterInfo.Cluster, Role: s.role(), Node: s.node, Mismatches: s.mismatches, Preflights: s.preflights, Log: o.LogFile}
	if s.closeBundle != nil {
		defer s.closeBundle()
	}
	if err != nil {
		return res, err
	}
	if log != nil {
		log.Note(s.preflights.Text())
	}
	readOnly := o.ReadOnly()
	steps, err := readOnly.joinSteps(ctx, s)
	var denied *agent.DeniedError
	if errors.As(err, &denied) { // the token ended while this host was inspected
		err = o.explainFailure(ctx, denied)
	}
	if err != nil {
		return res, err
	}
	todo, err := readOnly.StepRunner("join", nil).Plan(ctx, steps)
	if err != nil {
		return res, err
	}
	if req.Plan {
		res.Plan = todo
		return res, nil
	}
	if plan.CountNeeded(todo) == 0 && s.receipt.Bundle == s.bundle.Digest().String() {
		return res, nil
	}
	if last, ok := s.journal.LastRun("join"); ok && last.Unfinished() {
		o.Note(fmt.Sprintf("resuming the join started at %s, which stopped at step %s", last.StartedAt.Format(time.RFC3339), last.ReachedStep()))
	}
	for _, warning := range s.preflights.Warnings() {
		o.Note(warning)
	}
	res.Changed = true
	if steps, err = o.joinSteps(ctx, s); err != nil {
		return res, err
	}
	args := map[string]string{"bundle": s.bundle.Digest().String(), argRole: s.role(), argPin: o.token.Pin, action.ArgPodCIDR: s.installer.Spec.Network.PodCIDR, action.ArgName: s.installer.Metadata.Name}
	if err := s.journal.BeginRun("join", s.snapshot.AddDigest(action.WithStepCount(args, plan.CountNeeded(todo)))); err != nil {
		return res, err
	}
	if err = s.snapshot.Write(o.Env); err == nil {
		_, err = o.StepRunner("join", s.journal).Run(ctx, steps)
	}
	if err == nil {
		err = o.writeReceipt(s)
	}
	return res, errors.Join(err, s.journal.EndRun(err))
}

// hostState is the known state of the host and the cluster before a join changes
// anything.
type hostState struct {
	clusterInfo agent.ClusterInfo
	journal     *journal.Journal
	receipt     journal.Receipt // zero when nothing is installed
	bundle      *airgap.Bundle
	closeBundle func()
	installer   *spec.Installer
	facts       facts.Facts
	node        string
	address     netip.Addr
	mismatches  [][3]string
	preflights  *hostpreflight.Report
	snapshot    preflight.FactsSnapshot // facts, stored for later runs
	warnings    []string
}

func (s hostState) role() string { return s.clusterInfo.Role }

// inspect queries the cluster, compares this host with it and runs the preflights. The
// fastest checks come first.
func (o operation) inspect(ctx context.Context, req Options) (s hostState, err error) {
	if s.journal, err = journal.Open(o.Host, o.DataDir, o.Now); err != nil {
		return s, err
	}
	if s.receipt, _, err = journal.ReadReceipt(o.Host, o.DataDir); err != nil {
		return s, err
	}
	if err := errors.Join(checkNotLeaving(s.journal), o.checkOtherCluster(s.receipt), checkUnfinishedRun(s.journal.Runs(), o.token)); err != nil {
		return s, err
	}
	machineID, err := o.Host.ReadFile("/etc/machine-id")
	if err != nil {
		return s, problem.New(problem.ExitPreflight, "join", err, "create one with: sudo systemd-machine-id-setup")
	}
	sent := o.Now()
	if s.clusterInfo, err = o.cluster.DescribeCluster(ctx, strings.TrimSpace(string(machineID))); err != nil {
		return s, o.explainFailure(ctx, err)
	}
	offset := clockOffset(sent, o.Now(), s.clusterInfo.Time)
	if err := o.openBundle(ctx, &s, req.Bundle); err != nil {
		return s, err
	}
	if err := o.checkSharedConfig(&s); err != nil {
		return s, err
	}
	return s, o.checkHost(ctx, &s, req, offset)
}

// checkHost verifies that this host differs from all nodes of the cluster, that its
// clock agrees with theirs and that k0s will run on it.
func (o operation) checkHost(ctx context.Context, s *hostState, req Options, offset time.Duration) error {
	want := desired.JoinRequirements(s.bundle, s.installer, s.journal, o.DataDir, hostpreflight.Role(s.role()))
	vendor, err := config.ParseHostPreflights(s.installer)
	if err != nil {
		return problem.New(problem.ExitConfig, "join", err, "use a newer version of plinth that supports the bundle's Installer")
	}
	found, report, err := preflight.RunChecks(ctx, o.Env, preflight.Options{Requirements: want, VendorPreflights: vendor, Ignore: req.IgnorePreflights, Journal: s.journal,
		Peers: func(found facts.Facts) preflight.Peers { return o.peersToCheck(*s, found, offset) }})
	if err == nil {
		s.snapshot, err = preflight.NewFactsSnapshot(found)
	}
	if err != nil {
		return err
	}
	s.facts, s.preflights = found, &report
	s.node, s.address = strings.ToLower(s.facts.Hostname), desired.PrimaryAddress(s.facts.Network)
	if !s.address.IsValid() {
		return problem.New(problem.ExitPreflight, "join", errors.New("this host has no IPv4 address that other hosts can reach"), "configure an address and a default route on this host")
	}
	var errs []error
	if why := agent.Conflict(s.clusterInfo.Nodes, o.joinRequest(*s)); why != "" {
		errs = append(errs, refuseJoin(errors.New(why), "give this host a unique name, machine id and address; after cloning: sudo rm /etc/machine-id && sudo systemd-machine-id-setup"))
	}
	if err := checkClock(offset); err != nil {
		errs = append(errs, err)
	} else if offset.Abs() > clockWarnOffset {
		o.Note(fmt.Sprintf("warning: this host's clock is %s off the cluster's", offset.Round(time.Millisecond)))
	}
	if s.clusterInfo.API != "" {
		if err := preflight.CheckAPIReachable(ctx, s.clusterInfo.API, s.clusterInfo.CA); err != nil {
			s.warnings = append(s.warnings, fmt.Sprintf("this host cannot reach the Kubernetes API at %s: %v", s.clusterInfo.API, err))
			o.Note("warning: " + s.warnings[0])
		}
	}
	for _, id := range report.IgnoredIDs() {
		s.warnings = append(s.warnings, "host preflight "+id+" failed and was ignored on request")
	}
	return errors.Join(append(errs, report.Err("join"))...)
}

// joinRequest returns the data with which this host asks to join.
func (o operation) joinRequest(s hostState) agent.JoinRequest {
	return o.newJoinRequest(s, s.facts)
}

// newJoinRequest returns the join request of a host with the facts found.
func (o operation) newJoinRequest(s hostState, found facts.Facts) agent.JoinRequest {
	return agent.JoinRequest{Node: strings.ToLower(found.Hostname), MachineID: found.MachineID, Address: desired.PrimaryAddress(found.Network).String(), Fresh: !o.k0sService(s).Joined()}
}

func (o operation) k0sService(s hostState) k0s.Service {
	return k0s.Service{Host: o.Host, Worker: s.role() == token.Worker, JoinsCluster: true}
}

// joinSteps returns the steps by which this host joins.
func (o operation) joinSteps(ctx context.Context, s hostState) ([]step.Step, error) {
	self, err := o.AgentArtifact()
	if err != nil {
		return nil, err
	}
	podCIDR := netip.MustParsePrefix(s.installer.Spec.Network.PodCIDR) // the Installer was parsed
	return desired.JoinSteps(ctx, desired.Target{Host: o.Host, Journal: s.journal, Now: o.Now, DataDir: o.DataDir, Node: s.node, Address: s.address, API: s.clusterInfo.API,
		Cleanup: o.CleanupScope(podCIDR), Agent: self, Worker: s.role() == token.Worker, Joining: true}, s.bundle, s.installer, desired.JoinAccess{Admitter: agentAdmitter{o, s}, APIAccess: o.apiAccess(s)})
}

// apiAccess returns the access of a worker to the Kubernetes API, through a local load
// balancer; nil for a controller.
func (o operation) apiAccess(s hostState) *plan.APIAccess {
	if s.role() != token.Worker {
		return nil
	}
	return &plan.APIAccess{Files: loadbalancer.SeedFiles(o.DataDir),
		CheckSeed: func() (string, error) { return loadbalancer.SeedNeeded(o.Host, o.DataDir) },
		Seed: func() error {
			var controllers []netip.Addr
			for _, n := range s.clusterInfo.Nodes {
				if addr, err := netip.ParseAddr(firstOrEmpty(n.Addresses)); err == nil && n.Controller {
					controllers = append(controllers, addr)
				}
			}
			return loadbalancer.SeedControllers(o.Host, o.DataDir, s.clusterInfo.CA, controllers)
		}}
}

func firstOrEmpty(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// writeReceipt writes the receipt of the joined host.
func (o operation) writeReceipt(s hostState) error {
	now := o.Now().UTC()
	digest, err := s.installer.Digest()
	if err != nil {
		return err
	}
	r := journal.Receipt{Name: s.clusterInfo.Cluster, Role: s.role(), Node: s.node, Address: s.address.String(), API: s.clusterInfo.API, Bundle: s.bundle.Digest().String(),
		Installer: digest, Facts: s.snapshot.Digest.String(), Versions: map[string]string{"k0s": s.installer.Spec.K0s.Version}, Warnings: s.warnings, InstalledAt: s.receipt.InstalledAt, UpdatedAt: now}
	if r.InstalledAt.IsZero() {
		r.InstalledAt = now
	}
	for _, pin := range s.installer.AddOns() {
		r.Versions[pin.Key] = pin.Version
	}
	if k := s.installer.Spec.Kotsadm; k != nil {
		r.Console = journal.Console{Namespace: k.Namespace, Port: k.UIBindPort, Hostname: k.Hostname, Slug: k.ApplicationSlug}
	}
	return journal.WriteReceipt(o.Host, o.DataDir, r)
}
