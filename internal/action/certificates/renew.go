package certificates

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/servingcert"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/velero"
)

// Request is what to renew: the certificates that are due, if neither names nor All are given.
type Request struct {
	Names []string // of certificates
	All   bool     // every one that can be renewed on this host
	Plan  bool     // only return the plan
}

// Result is the result of Renew. Its JSON format is public.
type Result struct {
	Changed bool           `json:"changed"`           // false if there was nothing to do
	Renewed []string       `json:"renewed,omitempty"` // names of certificates, also of a plan; after a failure those that were renewed
	Skipped string         `json:"skipped,omitempty"` // why k0s is not restarted, so that its certificates stay
	Plan    []step.Planned `json:"plan,omitempty"`    // only with Request.Plan
	Log     string         `json:"log,omitempty"`
}

// renewing names what Renew does, for problems.
const renewing = "renew certificates"

// Renew renews certificates of this host and of its cluster. The agent of a controller runs it, too, so that
// there is one way to renew. Certificates that do not need a restart of k0s are renewed even if that restart is
// refused.
func Renew(ctx context.Context, env *action.Env, req Request) (Result, error) {
	if req.All && len(req.Names) > 0 {
		return Result{}, problem.Newf(problem.ExitUsage, renewing, "give names, or --all; nothing was changed", "--all is given with names")
	}
	receipt, err := env.RequireInstalled(renewing)
	if err != nil {
		return Result{}, err
	}
	r := &renewal{req: req, receipt: receipt, inspectCluster: nodes.Inspect}
	out, err := action.Execute(ctx, env, action.Operation{
		Verb:       "certificates renew",
		PlanOnly:   req.Plan,
		Inspect:    r.inspect,    // read the certificates and the cluster; refuse what cannot be renewed
		IsUpToDate: r.isUpToDate, // nothing is due
		Steps:      r.steps,      // plan.RenewCertificates
		Confirm:    r.confirm,    // ask once
	})
	res := Result{Changed: out.Changed, Renewed: namesOf(r.done), Log: out.Log}
	if r.refusal != nil {
		res.Skipped = r.refusal.Error()
		if out.Changed {
			r.refusal.Exit = problem.ExitStep
		}
		if err == nil {
			err = r.refusal
		}
	}
	if out.Changed || r.refusal != nil && !req.Plan {
		env.Audit(ctx, agent.AuditEvent{Event: agent.AuditRenewal, Node: receipt.Node, Result: auditResult(res, err)})
	}
	if req.Plan {
		res.Plan, res.Renewed = out.Planned, namesOf(r.selected())
	}
	return res, err
}

// auditResult returns the result for the audit log.
func auditResult(res Result, err error) string {
	what := "renewed " + strings.Join(res.Renewed, ", ")
	switch {
	case err != nil && len(res.Renewed) > 0:
		return what + "; not the rest: " + err.Error()
	case err != nil:
		return "not renewed: " + err.Error()
	}
	return what
}

// renewal is one call of Renew.
type renewal struct {
	req            Request
	receipt        journal.Receipt
	inspectCluster func(context.Context, host.Files) (nodes.ClusterView, error)

	direct  []Certificate    // to renew, without a restart of k0s
	kubelet []Certificate    // to renew, before k0s is restarted
	k0s     []Certificate    // to renew by that restart
	done    []Certificate    // renewed by now
	refusal *problem.Problem // why k0s must not be restarted; k0s and kubelet are empty then
}

func (r *renewal) selected() []Certificate { return slices.Concat(r.direct, r.kubelet, r.k0s) }

// inspect reads the certificates, selects those to renew, and checks whether k0s may be restarted.
func (r *renewal) inspect(ctx context.Context, env *action.Env) error {
	all, err := readAll(ctx, env, r.receipt)
	if err != nil {
		env.Note("warning: the certificates of the registry and the console stay as they are, because the cluster does not answer: " + problem.ExplainConnection(err))
	}
	selected, err := r.selectCertificates(all)
	if err != nil {
		return err
	}
	r.direct, r.kubelet, r.k0s = nil, nil, nil
	for _, c := range selected {
		switch c.RenewedBy {
		case ByK0s:
			r.k0s = append(r.k0s, c)
		case ByKubelet:
			r.kubelet = append(r.kubelet, c)
		case ByAgent:
			r.direct = append(r.direct, c)
		}
	}
	if len(r.k0s)+len(r.kubelet) == 0 {
		return nil
	}
	// The restart renews all of k0s's certificates, not only those that were selected.
	r.k0s = slices.DeleteFunc(slices.Clone(all), func(c Certificate) bool { return c.RenewedBy != ByK0s || c.Problem != "" })
	if r.refusal = r.refuseRestart(ctx, env); r.refusal == nil {
		return nil
	}
	r.k0s, r.kubelet = nil, nil // the others are renewed all the same
	return nil
}

// selectCertificates returns the certificates to renew.
func (r *renewal) selectCertificates(all []Certificate) (selected []Certificate, err error) {
	for _, name := range r.req.Names {
		c, ok := findByName(all, name)
		if !ok {
			hint := "plinth certificates list"
			if near := problem.Nearest(name, namesOf(all)); near != "" {
				hint = "did you mean " + near + "? To see all: " + hint
			}
			return nil, problem.Newf(problem.ExitUsage, renewing, hint, "this host has no certificate %q", name)
		}
		if why, fix := r.refuseCertificate(c); why != "" {
			return nil, problem.Newf(problem.ExitUsage, renewing, fix+"; nothing was changed", "%s %s", name, why)
		}
		selected = append(selected, c)
	}
	if len(r.req.Names) > 0 {
		return selected, nil
	}
	for _, c := range all {
		if why, _ := r.refuseCertificate(c); why == "" && (r.req.All || c.Due) {
			selected = append(selected, c)
		}
	}
	return selected, nil
}

// refuseCertificate returns why a certificate cannot be renewed on this host, and what to do; "" if it can.
func (r *renewal) refuseCertificate(c Certificate) (why, fix string) {
	switch {
	case c.Problem != "":
		return "cannot be read: " + c.Problem, "k0s replaces its own certificates when it starts"
	case c.Authority:
		return "is an authority, and everything trusts its key", "replace the keys of the cluster as docs/guide/hardening.md describes"
	case c.RenewedBy == ByNone:
		return "is not used by this version of k0s", "delete " + c.Location + " if you like"
	case c.RenewedBy == ByUser && c.Name == nameConsole:
		return "is your own", "set a new one: plinth console set-certificate"
	case c.RenewedBy == ByUser:
		return "was not issued by the cluster", "replace " + c.Location + " yourself"
	case c.RenewedBy == ByKubelet && r.receipt.Role == token.Worker:
		return "is renewed by kubelet while it runs", "after its end, let this host join again: plinth reset node, then plinth join"
	}
	return "", ""
}

// isUpToDate reports whether nothing is to be renewed.
func (r *renewal) isUpToDate(context.Context, *action.Env) (bool, error) {
	return len(r.selected()) == 0, nil
}

// confirm asks before the first change.
func (r *renewal) confirm(ctx context.Context, env *action.Env, _ []step.Planned) error {
	question := "Renew " + strings.Join(namesOf(r.selected()), ", ") + "?"
	if len(r.k0s) > 0 {
		question += " k0s on this host restarts: its API server is away for about half a minute, pods keep running."
	}
	return env.Confirm(ctx, question)
}

// steps returns the steps that renew the certificates with env's host.
func (r *renewal) steps(_ context.Context, env *action.Env) ([]step.Step, error) {
	var p plan.CertificateRenewal
	for _, c := range r.direct {
		n := &plan.Renewal{Reason: describeReason(c), Affects: []string{c.Location},
			IsRenewed: func(ctx context.Context) (bool, error) { return r.areRenewed(ctx, env, c) }}
		switch c.Name {
		case nameAgent:
			p.Agent, n.Renew = n, func(ctx context.Context, _ step.Report) error { return renewAgent(ctx, env, r.receipt) }
		case nameRegistry:
			p.Registry, n.Renew = n, r.renewService(env, "registry", "registry")
		case nameStore:
			p.ObjectStore, n.Renew = n, r.renewService(env, "velero", velero.StoreName)
		case nameConsole:
			p.Console, n.Renew = n, withClient(env, func(ctx context.Context, client *kube.Client) error {
				return kots.ConsoleProxy{Kube: client, Namespace: r.receipt.Console.Namespace}.RenewCertificate(ctx, env.Now())
			})
		}
		r.noteDone(n, c)
	}
	if len(r.kubelet) > 0 {
		p.Kubelet = &plan.Renewal{Reason: describeReason(r.kubelet[0]), Affects: locationsOf(r.kubelet),
			IsRenewed: func(ctx context.Context) (bool, error) { return r.areRenewed(ctx, env, r.kubelet...) },
			Renew:     func(context.Context, step.Report) error { return renewKubelet(env, r.receipt) }}
	}
	if len(r.k0s) > 0 {
		p.K0s = &plan.Renewal{Reason: describeReason(r.k0s[0]), Affects: append(locationsOf(r.k0s), r.unit()),
			IsRenewed: func(ctx context.Context) (bool, error) { return r.hasRestarted(ctx, env) },
			Renew:     func(ctx context.Context, report step.Report) error { return r.restartK0s(ctx, env, report) }}
	}
	for n, what := range map[*plan.Renewal][]Certificate{p.Kubelet: r.kubelet, p.K0s: r.k0s} {
		r.noteDone(n, what...)
	}
	return plan.RenewCertificates(p), nil
}

// renewService returns the renewal of the certificate of an add-on's service.
func (r *renewal) renewService(env *action.Env, addOn, name string) func(context.Context, step.Report) error {
	return withClient(env, func(ctx context.Context, client *kube.Client) error {
		return servingcert.Service{Kube: client, Namespace: namespaceOf(r.receipt, addOn), Name: name}.Renew(ctx, env.Now())
	})
}

// noteDone has n add certificates to those that are renewed; n may be nil.
func (r *renewal) noteDone(n *plan.Renewal, what ...Certificate) {
	if n == nil {
		return
	}
	renew := n.Renew
	n.Renew = func(ctx context.Context, report step.Report) error {
		err := renew(ctx, report)
		if err == nil {
			r.done = append(r.done, what...)
		}
		return err
	}
}

// withClient returns a function that calls do with a client for the cluster.
func withClient(env *action.Env, do func(context.Context, *kube.Client) error) func(context.Context, step.Report) error {
	return func(ctx context.Context, _ step.Report) error {
		client, err := env.KubeClient()
		if err != nil {
			return err
		}
		return do(ctx, client)
	}
}

// describeReason returns why a certificate is renewed.
func describeReason(c Certificate) string {
	return fmt.Sprintf("certificate %s ends on %s", c.Name, c.Ends.Format(time.DateOnly))
}

// locationsOf returns where certificates are, without those in memory.
func locationsOf(all []Certificate) (out []string) {
	for _, c := range all {
		if c.Name != nameLoopback {
			out = append(out, c.Location)
		}
	}
	return out
}

// hasRestarted reports whether k0s has issued its certificates again since inspect. Another version of k0s may not
// issue all of them.
func (r *renewal) hasRestarted(ctx context.Context, env *action.Env) (bool, error) {
	if admin, ok := findByName(r.k0s, nameAdmin); ok {
		return r.areRenewed(ctx, env, admin)
	}
	return r.areRenewed(ctx, env, r.k0s...)
}

// areRenewed reports whether all of these certificates have been replaced since inspect.
func (r *renewal) areRenewed(ctx context.Context, env *action.Env, old ...Certificate) (bool, error) {
	now := ReadHost(env.Host, env.DataDir, env.Now())
	if slices.ContainsFunc(old, func(c Certificate) bool { return c.Name == nameRegistry || c.Name == nameConsole }) {
		var err error
		if now, err = readAll(ctx, env, r.receipt); err != nil {
			return false, err
		}
	}
	for _, was := range old {
		if is, ok := findByName(now, was.Name); !ok || is.serial == was.serial || is.Problem != "" {
			return false, nil
		}
	}
	return true, nil
}
