package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	checks "github.com/plinthdev/plinth/internal/upgrade"
)

// clusterNodes is what an upgrade or a rollback knows of the nodes of its cluster.
type clusterNodes struct {
	all      []checks.Node // as admitted, or as a snapshot records them
	batches  []checks.Batch
	record   kube.UpgradeRecord
	skip     []string // names of nodes that are left out
	takeOver bool     // another controller has begun this upgrade, and has not finished it
}

// controllers returns the number of controllers of the cluster.
func (c clusterNodes) controllers() (n int) {
	for _, node := range c.all {
		if node.Controller {
			n++
		}
	}
	return n
}

// readNodes reads the admitted nodes and the record of the last upgrade.
func readNodes(ctx context.Context, env *action.Env) (c clusterNodes, err error) {
	ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	client, err := env.KubeClient()
	if err != nil {
		return c, err
	}
	records, err := client.NodeRecords(ctx)
	if err != nil {
		return c, err
	}
	if c.record, err = client.UpgradeRecord(ctx); err != nil {
		return clusterNodes{}, err
	}
	for _, r := range records.Sorted() {
		c.all = append(c.all, checks.Node{Name: r.Node, Address: r.Address, Controller: r.Role == token.Controller})
	}
	return c, nil
}

// recordedNodes returns the nodes that the snapshot s records, for a controller with this address whose API server does
// not answer: a killed run may have stopped it. ok is false if s records none: another controller has coordinated the
// upgrade.
func recordedNodes(s plan.Snapshot, address string) (c clusterNodes, ok bool) {
	if s.Follows {
		return c, false
	}
	c.all = []checks.Node{{Name: s.Node, Address: address, Controller: true}}
	for _, b := range s.Others {
		c.all = append(c.all, b...)
	}
	c.batches = s.Others
	return c, true
}

// unreadableNodes returns the problem of a cluster whose nodes cannot be read because of err; doing names the command. A
// cluster of several nodes must not be taken for one of a single node.
func unreadableNodes(doing string, err error) error {
	return problem.New(problem.ExitUsage, doing, fmt.Errorf("the nodes of the cluster cannot be read: %s", problem.ExplainConnection(err)),
		"check it with: plinth status; or run the command on another controller; nothing was changed")
}

// skipped returns the nodes that the upgrade leaves out: on request, now or when it began.
func (o *operation) skipped() []string {
	skip := slices.Clone(o.opts.SkipNodes)
	if o.nodes.record.Active() && o.nodes.record.To == o.to {
		for name, n := range o.nodes.record.Nodes {
			if n.State == kube.NodeSkipped && !slices.Contains(skip, name) {
				skip = append(skip, name)
			}
		}
	}
	slices.Sort(skip)
	return skip
}

// inspectNodes asks all other nodes for their state, and refuses an upgrade that not all of them can do.
func (o *operation) inspectNodes(ctx context.Context, env *action.Env) error {
	if o.nodesErr != nil {
		return o.useRecordedNodes(env)
	}
	if len(o.nodes.all) < 2 && len(o.opts.SkipNodes) == 0 {
		return nil
	}
	client, err := newUpgradeClient(env)
	if err != nil {
		return problem.New(problem.ExitUsage, "upgrade", err, "check this host with: plinth status; nothing was changed")
	}
	o.nodes.skip = o.skipped()
	reports := askNodes(ctx, client, o.nodes.all, o.node)
	if o.from == o.to { // only nodes that an upgrade to this bundle has left out
		reports = slices.DeleteFunc(reports, func(r checks.NodeReport) bool {
			return r.Name != o.node && (r.Unreachable != "" || r.Installed == o.to || r.Installed == "" || slices.Contains(o.nodes.skip, r.Name))
		})
	} else {
		refusals, notes := checks.CheckNodes(reports, checks.Reach{From: o.from, To: o.to, Program: o.agent.Digest.String(), Named: o.namesProgram(), Coordinator: o.node, Skip: o.nodes.skip, OtherMinor: !o.sameMinor()})
		if err := checks.RefusalError(refusals); err != nil {
			return err
		}
		for _, n := range notes {
			env.Note("note: " + n)
		}
	}
	if o.addsRegistry() {
		return problem.Newf(problem.ExitConfig, "upgrade", "add it with a new cluster, or before other nodes join; nothing was changed",
			"spec.registry: the built-in registry cannot be added to a cluster of several nodes: its nodes do not trust it yet")
	}
	var reached []checks.Node
	for _, r := range reports {
		if !slices.Contains(o.nodes.skip, r.Name) {
			reached = append(reached, r.Node)
		}
	}
	o.nodes.batches = checks.Batches(reached, o.node, o.opts.MaxUnavailable)
	o.noteDrains(ctx, env)
	return nil
}

// noteDrains warns of what the drains of the other nodes take down or wait for.
func (o *operation) noteDrains(ctx context.Context, env *action.Env) {
	if len(o.nodes.batches) == 0 || !o.newNodeDriver().drain || o.hasBegun() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	var found checks.Disruptions
	client, err := env.KubeClient()
	if err == nil {
		found, err = kube.Disruptions(ctx, client)
	}
	if err != nil {
		env.Note("warning: what the drains of nodes take down was not checked: " + problem.ExplainConnection(err))
		return
	}
	own := []string{"kube-system"}
	for _, a := range o.addOns {
		if !a.External {
			own = append(own, a.Namespace)
		}
	}
	var names []string
	for _, n := range slices.Concat(o.nodes.batches...) {
		names = append(names, n.Name)
	}
	for _, w := range checks.DrainWarnings(found, names, own) {
		env.Note("warning: " + w.String())
	}
}

// useRecordedNodes sets the nodes of an unfinished upgrade from its snapshot, and refuses any other upgrade while the nodes
// of the cluster cannot be read. A killed repair, which has no snapshot, is finished on this host only.
func (o *operation) useRecordedNodes(env *action.Env) error {
	s, found, err := plan.FindSnapshot(env.Host, env.DataDir)
	if err != nil {
		return err
	}
	if o.resumed && found && s.To == o.to {
		if nodes, ok := recordedNodes(s, o.address.String()); ok {
			o.nodes = nodes
			return nil
		}
	}
	if o.resumed && o.from == o.to {
		env.Note("note: the nodes of the cluster cannot be read, so only this host is repaired; run the same command again for the others")
		return nil
	}
	return unreadableNodes("upgrade", o.nodesErr)
}

// sameMinor reports whether the upgrade stays in one Kubernetes minor.
func (o *operation) sameMinor() bool {
	steps := checks.CheckRollback(2, o.installed.Spec.K0s.Version, o.config.Installer.Spec.K0s.Version, true)
	return steps == nil
}

// addsRegistry reports whether the new bundle has a built-in registry, and the old one has none.
func (o *operation) addsRegistry() bool {
	return o.installed.Spec.Registry == nil && o.config.Installer.Spec.Registry != nil
}

// askNodes asks the agents of all nodes at the same time, except that of the coordinator.
func askNodes(ctx context.Context, api nodeAPI, nodes []checks.Node, coordinator string) []checks.NodeReport {
	reports := make([]checks.NodeReport, len(nodes))
	var asking sync.WaitGroup
	for i, n := range nodes {
		reports[i].Node = n
		if n.Name == coordinator {
			continue
		}
		asking.Go(func() {
			st, err := api.State(ctx, address(n))
			if err != nil {
				reports[i].Unreachable = problem.ExplainConnection(err)
				return
			}
			reports[i].Installed, reports[i].Program, reports[i].Busy = st.Installed, st.Program.String(), st.Busy
		})
	}
	asking.Wait()
	return reports
}

// newUpgradeClient returns a client of the other nodes' agents, which shows the certificate of this controller's.
func newUpgradeClient(env *action.Env) (agent.UpgradeClient, error) {
	cert, pin, err := env.AgentIdentity()
	if err != nil {
		return agent.UpgradeClient{}, err
	}
	return agent.NewUpgradeClient(cert, pin), nil
}

// otherNodes returns the nodes besides the coordinator, with d, which upgrades them. The health of the cluster with them is
// compared by h with that of before the upgrade; nil if no step compares it.
func (c clusterNodes) otherNodes(env *action.Env, h plan.Health, d *nodeDriver) (plan.OtherNodes, error) {
	if len(c.batches) == 0 {
		return plan.OtherNodes{Skipped: c.skip}, nil
	}
	client, err := newUpgradeClient(env)
	if err != nil {
		return plan.OtherNodes{}, err
	}
	d.agents, d.now, d.limits = client, env.Now, defaultLimits
	d.open = func() (clusterAPI, error) {
		client, err := env.KubeClient()
		return kubeCluster{client}, err
	}
	d.unready = func(ctx context.Context) (string, error) { return c.unreadyController(ctx, env) }
	d.worse = func(ctx context.Context) (string, error) {
		s, ok, err := plan.FindSnapshot(env.Host, env.DataDir)
		if err != nil || !ok || s.Data == nil || s.Data.Health == nil {
			return "", err
		}
		all, err := h.Worse(ctx, s.Data.Health)
		return strings.Join(all, "; "), err
	}
	return plan.OtherNodes{Batches: c.batches, Skipped: c.skip, Agents: d}, nil
}

// unreadyController returns why an API server, or the member of etcd behind it, is not ready, or "". A controller that
// the upgrade leaves out does not count.
func (c clusterNodes) unreadyController(ctx context.Context, env *action.Env) (string, error) {
	client, err := env.KubeClient()
	if err != nil {
		return "", err
	}
	for _, n := range c.all {
		if !n.Controller || slices.Contains(c.skip, n.Name) {
			continue
		}
		if err := client.CheckAPIReady(ctx, net.JoinHostPort(n.Address, ports.APIText)); err != nil {
			return fmt.Sprintf("the API server of %s is not ready: %s", n.Name, problem.ExplainConnection(err)), nil
		}
	}
	return "", nil
}

// kubeCluster is the Kubernetes API of a real cluster.
type kubeCluster struct{ *kube.Client }

func (c kubeCluster) IsCordoned(ctx context.Context, node string) (bool, error) {
	n, err := c.Node(ctx, node)
	return n.Cordoned, err
}

func (c kubeCluster) SetSchedulable(ctx context.Context, node string, allowed bool) error {
	return kube.SetSchedulable(ctx, c.Client, node, allowed)
}

// drainTimeout is how long the pods of a node may take to leave it.
const drainTimeout = 10 * time.Minute

func (c kubeCluster) Drain(ctx context.Context, node string, report step.Report) error {
	all, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(n kube.Node) bool { return n.Name != node && n.Ready && !n.Cordoned }) {
		report("no other node can take its pods; they keep running", 0, 0)
		return nil
	}
	return kube.DrainMovable(ctx, c.Client, kube.Wait{Timeout: drainTimeout, Report: report}, node)
}

// stage stores the bundle where the other nodes fetch it from, and has all of them verify it and run the host
// preflights. No node changes anything that runs.
func (o *operation) stage(ctx context.Context, env *action.Env) error {
	if len(o.nodes.batches) == 0 {
		return nil
	}
	origin, err := o.origin()
	if err != nil {
		return err
	}
	s, err := desired.StageBundle(ctx, env.Host, o.bundle, origin)
	if err != nil {
		return err
	}
	s.Title = "Make the bundle available to the other nodes"
	steps := []step.Step{s}
	if file, ok := desired.StageProgram(o.bundle, o.agent.Digest, func(int64) (io.ReadCloser, error) { return o.agent.Open() }); ok {
		s := plan.StageProgram(env.Host, file)
		s.Title = "Make the plinth executable available to the other nodes"
		steps = append(steps, s)
	}
	steps = append(steps, o.checkOthers(env))
	if _, err = env.StepRunner(Verb, nil).Run(ctx, steps); err != nil && ctx.Err() == nil && !o.hasBegun() {
		return errors.Join(err, discardStaged(ctx, env))
	}
	if err != nil || !o.nodes.record.Active() || o.nodes.record.To != o.to {
		return err
	}
	client, err := env.KubeClient()
	if err != nil {
		return nil //nolint:nilerr // k0s is stopped: an earlier run has recorded them
	}
	return o.recordSkipped(ctx, client, env.Now())
}

// origin returns what verifies the bundle on other nodes.
func (o *operation) origin() (origin desired.BundleOrigin, err error) {
	origin.Signature = o.bundle.Signature()
	if file := o.opts.Source.KeyRotation; file != "" {
		origin.KeyRotation, err = action.ReadInput(nil, file, maxKeyRotation)
	}
	return origin, err
}

// checkOthers returns the step in which all other nodes verify the bundle and check themselves.
func (o *operation) checkOthers(env *action.Env) step.Step {
	checked := false
	return step.Step{ID: "nodes-check", Title: "Check all nodes",
		Check: func(context.Context) (step.State, error) {
			if checked || o.hasBegun() {
				return step.Done(), nil
			}
			return step.Needed("they have not checked the new bundle"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			nodes := o.newNodeDriver()
			found, err := o.nodes.otherNodes(env, nil, nodes)
			if err != nil {
				return err
			}
			var checking sync.WaitGroup
			var mu sync.Mutex
			var errs []error
			for _, n := range slices.Concat(found.Batches...) {
				checking.Go(func() {
					err := nodes.runPhase(ctx, n, agent.UpgradeCheck, func(m string, done, total int64) {
						mu.Lock()
						defer mu.Unlock()
						report(n.Name+": "+m, done, total)
					})
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				})
			}
			checking.Wait()
			checked = true
			return errors.Join(errs...)
		},
	}
}

// namesProgram reports whether the bundle names the plinth executable that runs here, so that other nodes take it.
func (o *operation) namesProgram() bool {
	return slices.ContainsFunc(o.bundle.Programs(), func(p format.Program) bool { return p.Digest == o.agent.Digest })
}

// newNodeDriver returns the driver of the other nodes, for clusterNodes.otherNodes.
func (o *operation) newNodeDriver() *nodeDriver {
	return &nodeDriver{from: o.from, to: o.to, program: o.agent.Digest, drain: !o.opts.NoDrain && o.from != o.to}
}

// recordSkipped records the nodes that a resumed upgrade leaves out.
func (o *operation) recordSkipped(ctx context.Context, records plan.UpgradeRecords, now time.Time) error {
	if len(o.nodes.skip) == 0 {
		return nil
	}
	return records.UpdateUpgradeRecord(ctx, func(r *kube.UpgradeRecord) error {
		r.SkipNodes(o.nodes.skip, now)
		return nil
	})
}

// reached reports whether a node other than the coordinator may run the new version.
func (o *operation) reached(began []string) bool {
	return o.nodes.takeOver || o.nodes.record.To == o.to && o.nodes.record.ReachedNodes() ||
		beganNodes(began)
}

// beganNodes reports whether one of the steps in began upgrades another node.
func beganNodes(began []string) bool {
	return slices.ContainsFunc(began, func(id string) bool { return strings.HasPrefix(id, plan.UpgradeNodePrefix) })
}

// noteStopped records why an upgrade of several nodes has stopped.
func (o *operation) noteStopped(ctx context.Context, env *action.Env, failed error) {
	client, err := env.KubeClient()
	if err != nil {
		return
	}
	_ = client.UpdateUpgradeRecord(ctx, func(r *kube.UpgradeRecord) error {
		if r.Active() && r.To == o.to {
			r.Why = failed.Error()
		}
		return nil
	})
}

// describeNodes returns a sentence about the other nodes for a question, or "".
func describeNodes(batches []checks.Batch, drain bool) string {
	if len(batches) == 0 {
		return ""
	}
	var names []string
	for _, b := range batches {
		names = append(names, b.Names())
	}
	text := "After this node: " + strings.Join(names, "; then ") + "."
	if drain {
		text += " The pods of a node are moved to others before its k0s is restarted, except those that cannot be."
	}
	return text + "\n"
}

// commitNodes returns the steps that remove the snapshots of the other nodes.
func commitNodes(ctx context.Context, env *action.Env) ([]step.Step, error) {
	s, found, err := plan.FindSnapshot(env.Host, env.DataDir)
	if err != nil || !found {
		return nil, err
	}
	c, unread := readNodes(ctx, env)
	if unread != nil {
		var ok bool
		if c, ok = recordedNodes(s, ""); !ok {
			return nil, unreadableNodes("commit the upgrade", unread)
		}
	}
	for _, n := range c.all {
		if state := c.record.Nodes[n.Name].State; n.Name != s.Node && state != kube.NodeSkipped && (state != "" || n.Name == c.record.Coordinator) && c.record.To == s.To {
			c.batches = append(c.batches, checks.Batch{n})
		}
	}
	others, err := c.otherNodes(env, nil, &nodeDriver{from: s.From, to: s.To})
	return plan.CommitNodes(others), err
}
