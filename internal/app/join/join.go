// Package join owns how a host becomes a node of a cluster that is there: it
// proves by the token that it talks to that cluster, holds this host against
// it, and runs the steps. It refuses to change anything before all of that has
// been proved, and to know flags and how anything is done below a step.
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

// Request is what a join is asked for.
type Request struct {
	Token            string   // as it was pasted; secret
	Bundle           string   // file; "" to fetch from the cluster what is lacking
	Role             string   // that the token must be for; "" for the token's
	IgnorePreflights []string // ids of checks that may fail
	Plan             bool     // only say what would be done
}

// Result is how a join ended.
type Result struct {
	Changed    bool                  `json:"changed"` // false: there was nothing to do
	Cluster    string                `json:"cluster,omitempty"`
	Role       string                `json:"role,omitempty"`
	Node       string                `json:"node,omitempty"`
	Differ     [][3]string           `json:"differ,omitempty"` // field, value here, value in the cluster
	Plan       []step.Planned        `json:"plan,omitempty"`   // with Request.Plan
	Preflights *hostpreflight.Report `json:"preflights,omitempty"`
	Log        string                `json:"log,omitempty"`
}

// job is a join of this host.
type job struct {
	*run.Run
	token   token.Token
	cluster *peer.Cluster
}

// Join makes this host a node. Until every proof has been given nothing on the
// host changes but the log.
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
		return Result{}, refused(fmt.Errorf("the token is for a %s, and this host is to be a %s", t.Role, req.Role), "make one on a controller: sudo plinth token create --role "+req.Role)
	}
	a := job{Run: r, token: t, cluster: peer.New(t)}
	defer a.cluster.Close()
	if req.Plan {
		return a.ReadOnly().run(ctx, req, nil)
	}
	var res Result
	err = r.Changing(ctx, "join", func(r *run.Run, log *runlog.Log) error {
		a.Run = r
		res, err = a.run(ctx, req, log)
		return err
	})
	return res, err
}

// ReadOnly is a job that can only look at the host.
func (a job) ReadOnly() job {
	a.Run = a.Run.ReadOnly()
	return a
}

// refused is a join that the cluster, or what it must agree with, forbids.
func refused(err error, hint string) error {
	return problem.New(problem.ExitJoin, "join", err, strings.TrimPrefix(hint+"\nnothing on this host was changed", "\n"))
}

// run proves, and runs the steps unless only a plan is wanted.
func (a job) run(ctx context.Context, req Request, log *runlog.Log) (Result, error) {
	s, err := a.survey(ctx, req)
	res := Result{Cluster: s.offer.Cluster, Role: s.role(), Node: s.node, Differ: s.differ, Preflights: s.preflights, Log: a.LogFile}
	if s.close != nil {
		defer s.close()
	}
	if err != nil {
		return res, err
	}
	if log != nil {
		log.Note(s.preflights.Text())
	}
	look := a.ReadOnly()
	steps, err := look.steps(ctx, s)
	var no *peer.Denied
	if errors.As(err, &no) { // the token ended while this host was looked at
		err = a.unreachable(ctx, no)
	}
	if err != nil {
		return res, err
	}
	todo, err := look.Steps("join", nil).Plan(ctx, steps)
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
	if run, ok := s.journal.Last("join"); ok && run.Unfinished() {
		a.Note(fmt.Sprintf("resuming the join begun at %s, which stopped at step %s", run.Began.Format(time.RFC3339), run.At()))
	}
	for _, warning := range s.preflights.Warnings() {
		a.Note(warning)
	}
	res.Changed = true
	if steps, err = a.steps(ctx, s); err != nil {
		return res, err
	}
	args := map[string]string{"bundle": s.bundle.Digest().String(), argRole: s.role(), argPin: a.token.Pin, run.ArgPodCIDR: s.installer.Spec.Network.PodCIDR, run.ArgName: s.installer.Metadata.Name}
	if err := s.journal.Begin("join", s.keep.Bind(run.Steps(args, plan.Needed(todo)))); err != nil {
		return res, err
	}
	if err = s.keep.Write(a.Run); err == nil {
		_, err = a.Steps("join", s.journal).Run(ctx, steps)
	}
	if err == nil {
		err = a.writeReceipt(s)
	}
	return res, errors.Join(err, s.journal.End(err))
}

// site is all that is known before a join changes anything.
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
	keep       preflight.Keeping // what was found, for later runs
	warnings   []string
}

func (s site) role() string { return s.offer.Role }

// survey asks the cluster, holds this host against it, and runs the
// preflights. The order is that of the time it takes.
func (a job) survey(ctx context.Context, req Request) (s site, err error) {
	if s.journal, err = journal.Open(a.Host, a.DataDir, a.Now); err != nil {
		return s, err
	}
	if s.receipt, _, err = journal.ReadReceipt(a.Host, a.DataDir); err != nil {
		return s, err
	}
	if err := errors.Join(leaving(s.journal), a.another(s.receipt), other(s.journal.Runs(), a.token)); err != nil {
		return s, err
	}
	machine, err := a.Host.ReadFile("/etc/machine-id")
	if err != nil {
		return s, problem.New(problem.ExitPreflight, "join", err, "systemd-machine-id-setup makes one")
	}
	asked := a.Now()
	if s.offer, err = a.cluster.Offer(ctx, strings.TrimSpace(string(machine))); err != nil {
		return s, a.unreachable(ctx, err)
	}
	offset := clockOffset(asked, a.Now(), s.offer.Time)
	if err := a.openBundle(ctx, &s, req.Bundle); err != nil {
		return s, err
	}
	if err := a.agree(&s); err != nil {
		return s, err
	}
	return s, a.judge(ctx, &s, req, offset)
}

// judge looks at this host: is it another one than all nodes, is its clock the
// cluster's, and will k0s run on it.
func (a job) judge(ctx context.Context, s *site, req Request, offset time.Duration) error {
	want := compose.WantToJoin(s.bundle, s.installer, s.journal, a.DataDir, hostpreflight.Role(s.role()))
	vendor, err := manifest.Preflights(s.installer)
	if err != nil {
		return problem.New(problem.ExitConfig, "join", err, "the bundle's Installer needs a newer plinth")
	}
	found, report, err := preflight.Look(ctx, a.Run, preflight.Question{Want: want, Vendor: vendor, Ignore: req.IgnorePreflights, Journal: s.journal,
		Others: func(found facts.Facts) preflight.Others { return a.others(*s, found, offset) }})
	if err == nil {
		s.keep, err = preflight.Keep(found)
	}
	if err != nil {
		return err
	}
	s.found, s.preflights = found, &report
	s.node, s.address = strings.ToLower(s.found.Hostname), compose.Primary(s.found.Network)
	if !s.address.IsValid() {
		return problem.New(problem.ExitPreflight, "join", errors.New("this host has no IPv4 address that others could reach"), "give the host an address and a default route")
	}
	var errs []error
	if why := agent.Taken(s.offer.Nodes, a.claim(*s)); why != "" {
		errs = append(errs, refused(errors.New(why), "give this host a name, a machine id and an address of its own; after cloning: rm /etc/machine-id && systemd-machine-id-setup"))
	}
	if err := judgeClock(offset); err != nil {
		errs = append(errs, err)
	} else if offset.Abs() > clockWarn {
		a.Note(fmt.Sprintf("warning: this host's clock is %s off the cluster's", offset.Round(time.Millisecond)))
	}
	if s.offer.API != "" {
		if err := preflight.Reach(ctx, s.offer.API, s.offer.CA); err != nil {
			s.warnings = append(s.warnings, fmt.Sprintf("this host does not reach the API at %s: %v", s.offer.API, err))
			a.Note("warning: " + s.warnings[0])
		}
	}
	for _, id := range report.Ignored() {
		s.warnings = append(s.warnings, "host preflight "+id+" failed and was ignored on request")
	}
	return errors.Join(append(errs, report.Err("join"))...)
}

func (a job) claim(s site) agent.Claim {
	return a.claimOf(s, s.found)
}

func (a job) claimOf(s site, found facts.Facts) agent.Claim {
	return agent.Claim{Node: strings.ToLower(found.Hostname), MachineID: found.MachineID, Address: compose.Primary(found.Network).String(), Fresh: !a.service(s).Joined()}
}

func (a job) service(s site) k0s.Service {
	return k0s.Service{Host: a.Host, Worker: s.role() == token.Worker, Joins: true}
}

// steps are those of this host.
func (a job) steps(ctx context.Context, s site) ([]step.Step, error) {
	self, err := a.Self()
	if err != nil {
		return nil, err
	}
	podCIDR := netip.MustParsePrefix(s.installer.Spec.Network.PodCIDR) // the Installer was parsed
	return compose.Join(ctx, compose.Site{Host: a.Host, Journal: s.journal, Now: a.Now, DataDir: a.DataDir, Node: s.node, Address: s.address, API: s.offer.API,
		Leftover: a.Leftover(podCIDR), Self: self, Worker: s.role() == token.Worker, Joins: true}, s.bundle, s.installer, compose.Entry{Door: door{a, s}, Way: a.way(s)})
}

// way is a worker's to the API; nil for a controller.
func (a job) way(s site) *entry.Way {
	if s.role() != token.Worker {
		return nil
	}
	return &entry.Way{Files: gateway.Files(a.DataDir),
		Needed: func() (string, error) { return gateway.SeedNeeded(a.Host, a.DataDir) },
		Seed: func() error {
			var controllers []netip.Addr
			for _, n := range s.offer.Nodes {
				if addr, err := netip.ParseAddr(first(n.Addresses)); err == nil && n.Controller {
					controllers = append(controllers, addr)
				}
			}
			return gateway.Seed(a.Host, a.DataDir, s.offer.CA, controllers)
		}}
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// writeReceipt says what this host is now.
func (a job) writeReceipt(s site) error {
	now := a.Now().UTC()
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
	return journal.WriteReceipt(a.Host, a.DataDir, r)
}
