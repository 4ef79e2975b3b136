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
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/agent/peer"
	"github.com/plinthdev/plinth/internal/app/compose"
	"github.com/plinthdev/plinth/internal/app/gateway"
	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/app/preflight"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/plan/entry"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// Options are the options of a join.
type Request struct {
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
	Differ     [][3]string           `json:"mismatches,omitempty"` // field, value here, value in the cluster
	Plan       []step.Planned        `json:"plan,omitempty"`       // only with Options.Plan
	Preflights *hostpreflight.Report `json:"preflights,omitempty"`
	Log        string                `json:"log,omitempty"`
}

// operation is a join of this host.
type job struct {
	*run.Run
	token   token.Token
	cluster *peer.Cluster
}

// Run makes this host a node of the cluster for which the token is valid. Nothing on the
// host but the log changes until the cluster, the bundle and the host have been verified.
func Join(ctx context.Context, r *run.Run, req Request) (Result, error) {
	if err := run.NeedRoot("join"); err != nil {
		return Result{}, err
	}
	if err := r.Usable("join"); err != nil {
		return Result{}, err
	}
	r.Secrets.Hide(strings.TrimSpace(req.Token))
	t, err := token.Decode(req.Token)
	if err != nil {
		return Result{}, refused(fmt.Errorf("the token is damaged: %w", err), "copy the whole line that `plinth token create` printed")
	}
	for _, secret := range []string{t.Secret, t.Bearer()} {
		r.Secrets.Hide(secret)
	}
	if req.Role != "" && req.Role != t.Role {
		return Result{}, refused(fmt.Errorf("the token is for a %s, but this host should become a %s", t.Role, req.Role), "create one on a controller: sudo plinth token create --role "+req.Role)
	}
	o := job{Run: r, token: t, cluster: peer.New(t)}
	defer o.cluster.Close()
	if req.Plan {
		return o.ReadOnly().run(ctx, req, nil)
	}
	var res Result
	err = r.Changing(ctx, "join", func(r *run.Run, log *runlog.Log) error {
		o.Run = r
		res, err = o.run(ctx, req, log)
		return err
	})
	return res, err
}

// ReadOnly returns a copy of o that cannot change the host.
func (o job) ReadOnly() job {
	o.Run = o.Run.ReadOnly()
	return o
}

// refuseJoin returns the problem of a join that the cluster refuses or that does not
// match it. The host was not changed.
func refused(err error, hint string) error {
	return problem.New(problem.ExitJoin, "join", err, strings.TrimPrefix(hint+"\nnothing on this host was changed", "\n"))
}

// execute verifies the cluster and the host, and runs the steps unless only a plan is
// requested. log is nil for a plan.
func (o job) run(ctx context.Context, req Request, log *runlog.Log) (Result, error) {
	s, err := o.survey(ctx, req)
	res := Result{Cluster: s.offer.Cluster, Role: s.role(), Node: s.node, Differ: s.differ, Preflights: s.preflights, Log: o.LogFile}
	if s.close != nil {
		defer s.close()
	}
	if err != nil {
		return res, err
	}
	if log != nil {
		log.Note(s.preflights.Text())
	}
	readOnly := o.ReadOnly()
	steps, err := readOnly.steps(ctx, s)
	var denied *peer.Denied
	if errors.As(err, &denied) { // the token ended while this host was inspected
		err = o.unreachable(ctx, denied)
	}
	if err != nil {
		return res, err
	}
	todo, err := readOnly.Steps("join", nil).Plan(ctx, steps)
	if err != nil {
		return res, err
	}
	if req.Plan {
		res.Plan = todo
		return res, nil
	}
	if plan.Needed(todo) == 0 && s.receipt.Bundle == s.bundle.Digest().String() {
		return res, nil
	}
	if last, ok := s.journal.Last("join"); ok && last.Unfinished() {
		o.Note(fmt.Sprintf("resuming the join started at %s, which stopped at step %s", last.Began.Format(time.RFC3339), last.At()))
	}
	for _, warning := range s.preflights.Warnings() {
		o.Note(warning)
	}
	res.Changed = true
	if steps, err = o.steps(ctx, s); err != nil {
		return res, err
	}
	args := map[string]string{"bundle": s.bundle.Digest().String(), argRole: s.role(), argPin: o.token.Pin, run.ArgPodCIDR: s.installer.Spec.Network.PodCIDR, run.ArgName: s.installer.Metadata.Name}
	if err := s.journal.Begin("join", s.keep.Bind(run.Steps(args, plan.Needed(todo)))); err != nil {
		return res, err
	}
	if err = s.keep.Write(o.Run); err == nil {
		_, err = o.Steps("join", s.journal).Run(ctx, steps)
	}
	if err == nil {
		err = o.writeReceipt(s)
	}
	return res, errors.Join(err, s.journal.End(err))
}

// hostState is the known state of the host and the cluster before a join changes
// anything.
type site struct {
	offer      agent.Offer
	journal    *journal.Journal
	receipt    journal.Receipt // zero when nothing is installed
	bundle     *airgap.Bundle
	close      func()
	installer  *spec.Installer
	found      facts.Facts
	node       string
	address    netip.Addr
	differ     [][3]string
	preflights *hostpreflight.Report
	keep       preflight.Keeping // facts, stored for later runs
	warnings   []string
}

func (s site) role() string { return s.offer.Role }

// inspect queries the cluster, compares this host with it and runs the preflights. The
// fastest checks come first.
func (o job) survey(ctx context.Context, req Request) (s site, err error) {
	if s.journal, err = journal.Open(o.Host, o.DataDir, o.Now); err != nil {
		return s, err
	}
	if s.receipt, _, err = journal.ReadReceipt(o.Host, o.DataDir); err != nil {
		return s, err
	}
	if err := errors.Join(leaving(s.journal), o.another(s.receipt), other(s.journal.Runs(), o.token)); err != nil {
		return s, err
	}
	machineID, err := o.Host.ReadFile("/etc/machine-id")
	if err != nil {
		return s, problem.New(problem.ExitPreflight, "join", err, "create one with: sudo systemd-machine-id-setup")
	}
	sent := o.Now()
	if s.offer, err = o.cluster.Offer(ctx, strings.TrimSpace(string(machineID))); err != nil {
		return s, o.unreachable(ctx, err)
	}
	offset := clockOffset(sent, o.Now(), s.offer.Time)
	if err := o.openBundle(ctx, &s, req.Bundle); err != nil {
		return s, err
	}
	if err := o.agree(&s); err != nil {
		return s, err
	}
	return s, o.judge(ctx, &s, req, offset)
}

// checkHost verifies that this host differs from all nodes of the cluster, that its
// clock agrees with theirs and that k0s will run on it.
func (o job) judge(ctx context.Context, s *site, req Request, offset time.Duration) error {
	want := compose.WantToJoin(s.bundle, s.installer, s.journal, o.DataDir, hostpreflight.Role(s.role()))
	vendor, err := manifest.Preflights(s.installer)
	if err != nil {
		return problem.New(problem.ExitConfig, "join", err, "use a newer version of plinth that supports the bundle's Installer")
	}
	found, report, err := preflight.Look(ctx, o.Run, preflight.Question{Want: want, Vendor: vendor, Ignore: req.IgnorePreflights, Journal: s.journal,
		Others: func(found facts.Facts) preflight.Others { return o.others(*s, found, offset) }})
	if err == nil {
		s.keep, err = preflight.Keep(found)
	}
	if err != nil {
		return err
	}
	s.found, s.preflights = found, &report
	s.node, s.address = strings.ToLower(s.found.Hostname), compose.Primary(s.found.Network)
	if !s.address.IsValid() {
		return problem.New(problem.ExitPreflight, "join", errors.New("this host has no IPv4 address that other hosts can reach"), "configure an address and a default route on this host")
	}
	var errs []error
	if why := agent.Taken(s.offer.Nodes, o.claim(*s)); why != "" {
		errs = append(errs, refused(errors.New(why), "give this host a unique name, machine id and address; after cloning: sudo rm /etc/machine-id && sudo systemd-machine-id-setup"))
	}
	if err := judgeClock(offset); err != nil {
		errs = append(errs, err)
	} else if offset.Abs() > clockWarn {
		o.Note(fmt.Sprintf("warning: this host's clock is %s off the cluster's", offset.Round(time.Millisecond)))
	}
	if s.offer.API != "" {
		if err := preflight.Reach(ctx, s.offer.API, s.offer.CA); err != nil {
			s.warnings = append(s.warnings, fmt.Sprintf("this host cannot reach the Kubernetes API at %s: %v", s.offer.API, err))
			o.Note("warning: " + s.warnings[0])
		}
	}
	for _, id := range report.Ignored() {
		s.warnings = append(s.warnings, "host preflight "+id+" failed and was ignored on request")
	}
	return errors.Join(append(errs, report.Err("join"))...)
}

// joinRequest returns the data with which this host asks to join.
func (o job) claim(s site) agent.Claim {
	return o.claimOf(s, s.found)
}

// newJoinRequest returns the join request of a host with the facts found.
func (o job) claimOf(s site, found facts.Facts) agent.Claim {
	return agent.Claim{Node: strings.ToLower(found.Hostname), MachineID: found.MachineID, Address: compose.Primary(found.Network).String(), Fresh: !o.service(s).Joined()}
}

func (o job) service(s site) k0s.Service {
	return k0s.Service{Host: o.Host, Worker: s.role() == token.Worker, Joins: true}
}

// joinSteps returns the steps by which this host joins.
func (o job) steps(ctx context.Context, s site) ([]step.Step, error) {
	self, err := o.Self()
	if err != nil {
		return nil, err
	}
	podCIDR := netip.MustParsePrefix(s.installer.Spec.Network.PodCIDR) // the Installer was parsed
	return compose.Join(ctx, compose.Site{Host: o.Host, Journal: s.journal, Now: o.Now, DataDir: o.DataDir, Node: s.node, Address: s.address, API: s.offer.API,
		Leftover: o.Leftover(podCIDR), Self: self, Worker: s.role() == token.Worker, Joins: true}, s.bundle, s.installer, compose.Entry{Door: door{o, s}, Way: o.way(s)})
}

// apiAccess returns the access of a worker to the Kubernetes API, through a local load
// balancer; nil for a controller.
func (o job) way(s site) *entry.Way {
	if s.role() != token.Worker {
		return nil
	}
	return &entry.Way{Files: gateway.Files(o.DataDir),
		Needed: func() (string, error) { return gateway.SeedNeeded(o.Host, o.DataDir) },
		Seed: func() error {
			var controllers []netip.Addr
			for _, n := range s.offer.Nodes {
				if addr, err := netip.ParseAddr(first(n.Addresses)); err == nil && n.Controller {
					controllers = append(controllers, addr)
				}
			}
			return gateway.Seed(o.Host, o.DataDir, s.offer.CA, controllers)
		}}
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// writeReceipt writes the receipt of the joined host.
func (o job) writeReceipt(s site) error {
	now := o.Now().UTC()
	digest, err := s.installer.Digest()
	if err != nil {
		return err
	}
	r := journal.Receipt{Name: s.offer.Cluster, Role: s.role(), Node: s.node, Address: s.address.String(), API: s.offer.API, Bundle: s.bundle.Digest().String(),
		Installer: digest, Facts: s.keep.Digest.String(), Versions: map[string]string{"k0s": s.installer.Spec.K0s.Version}, Warnings: s.warnings, Installed: s.receipt.Installed, Updated: now}
	if r.Installed.IsZero() {
		r.Installed = now
	}
	for _, pin := range s.installer.AddOns() {
		r.Versions[pin.Key] = pin.Version
	}
	if k := s.installer.Spec.Kotsadm; k != nil {
		r.Console = journal.Console{Namespace: k.Namespace, Port: k.UIBindPort, Hostname: k.Hostname, Slug: k.ApplicationSlug}
	}
	return journal.WriteReceipt(o.Host, o.DataDir, r)
}
