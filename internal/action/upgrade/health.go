package upgrade

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	checks "github.com/plinthdev/plinth/internal/upgrade"
)

// gatherTimeout is how long the state of the cluster may take to be read.
const gatherTimeout = 30 * time.Second

// clusterHealth compares the cluster with its state before an upgrade.
type clusterHealth struct {
	env     *action.Env
	node    string          // Kubernetes name of this host
	address string          // of this host
	before  journal.Console // the console before the upgrade; zero if there is none
	after   journal.Console // the console that the steps lead to
	dropped []addons.AddOn  // whose workloads are removed, or may be: a chart of the vendor can rename them
	removed []string        // workloads, by their String, that the upgrade removes beside those of add-ons
	charts  []addons.AddOn  // those that the steps lead to; what is optional does not count
	skip    []string        // names of nodes that are left out
}

var _ plan.Health = clusterHealth{}

// Gather returns the state of the cluster before the upgrade.
func (h clusterHealth) Gather(ctx context.Context) (json.RawMessage, error) {
	state, err := h.gather(ctx, h.before)
	if err != nil {
		return nil, err
	}
	return json.Marshal(state)
}

// Worse returns what is worse than before.
func (h clusterHealth) Worse(ctx context.Context, before json.RawMessage) ([]string, error) {
	var was checks.Health
	if err := json.Unmarshal(before, &was); err != nil {
		return nil, err
	}
	is, err := h.gather(ctx, h.after)
	if err != nil {
		return nil, err
	}
	dropped, all := slices.Clone(h.removed), []string(nil)
	for _, w := range was.Workloads {
		if slices.ContainsFunc(h.dropped, func(a addons.AddOn) bool { return a.Namespace == w.Namespace }) {
			dropped = append(dropped, w.String())
		}
	}
	for _, w := range checks.Compare(was.Without(h.skip, is), is, dropped...) {
		if !slices.ContainsFunc(h.charts, func(a addons.AddOn) bool { return a.Optional && a.Namespace == w.Namespace }) {
			all = append(all, w.String())
		}
	}
	return all, nil
}

// gather reads the state of the cluster, with the console in the namespace that c has.
func (h clusterHealth) gather(ctx context.Context, c journal.Console) (checks.Health, error) {
	ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	client, err := h.env.KubeClient()
	if err != nil {
		return checks.Health{}, err
	}
	state, err := kube.Health(ctx, client)
	if err != nil {
		return state, err
	}
	state.Checks = append(state.Checks, checks.Check{Name: "etcd member " + h.node, Reason: h.etcdReason(ctx)})
	if c.Port != 0 {
		state.Checks = append(state.Checks, checks.Check{Name: "the console", Reason: h.consoleReason(ctx, client, c.Namespace)})
		state.Checks = append(state.Checks, h.applications(ctx, c)...)
	}
	return state, nil
}

// etcdReason returns why the member of etcd on this host does not serve, or "".
func (h clusterHealth) etcdReason(ctx context.Context) string {
	client, err := etcd.New(h.env.Host)
	if err != nil {
		return err.Error()
	}
	members, err := client.Members(ctx)
	switch {
	case err != nil:
		return problem.ExplainConnection(err)
	case !slices.ContainsFunc(members, func(m etcd.Member) bool { return m.Leader }):
		return "etcd has no leader"
	}
	return ""
}

// consoleReason returns why the console in a namespace does not answer, or "". An upgrade changes its port only after all nodes
// have the new version, and a rollback after all have the old one, so the port is that of the cluster.
func (h clusterHealth) consoleReason(ctx context.Context, client *kube.Client, namespace string) string {
	proxy := kots.ConsoleProxy{Kube: client, Namespace: namespace}
	cert, _, err := proxy.Certificate(ctx)
	if err != nil {
		return err.Error()
	}
	port, err := proxy.Port(ctx)
	if err != nil {
		return err.Error()
	}
	state, err := kots.GetConsoleHealth(ctx, desired.ConsoleURL(journal.Console{Port: port}, h.address), cert)
	switch {
	case err != nil:
		return problem.ExplainConnection(err)
	case !state.Database || !state.Storage:
		return "it answers, but its database or its storage is not available"
	}
	return ""
}

// applications returns a check for each application whose state the console reports. Without an answer of its database
// there are none, which counts if there were some before.
func (h clusterHealth) applications(ctx context.Context, c journal.Console) (all []checks.Check) {
	k, err := h.env.KOTS(c.Namespace)
	if err != nil {
		return nil
	}
	apps, err := k.DeployedApps(ctx)
	if err != nil {
		return nil
	}
	for _, app := range apps {
		if app.Reports {
			all = append(all, checks.Check{Name: "the application " + app.Slug, Reason: app.Reason})
		}
	}
	return all
}
