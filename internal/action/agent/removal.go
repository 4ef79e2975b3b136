package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/token"
)

// removalInterval is how often a node asks whether the cluster has removed it: often enough that programs on other
// nodes soon lose their connections to its API server, and seldom enough for a thousand nodes.
const removalInterval = 20 * time.Second

// membershipServer answers the nodes of this controller's cluster whether they belong to it.
type membershipServer struct {
	joinServer
	records *RecordCache
}

// Membership returns the state of the admission that the certificate of a node is of. A node that was removed
// may be a member for recordsMaxAge longer.
func (s membershipServer) Membership(ctx context.Context, p nodecert.NodeID) (agent.Membership, error) {
	m := agent.Membership{Node: p.Node, UID: p.UID, State: agent.StateUnknown}
	records, err := s.records.Get(ctx, recordsMaxAge)
	if err != nil { // without the API server of this host, older records say nothing
		return m, err
	}
	if r, ok := records[p.Node]; ok && r.UID == p.UID {
		m.State = agent.StateMember
		return m, nil
	}
	client, err := s.KubeClient()
	if err != nil {
		return m, err
	}
	note, ok, err := client.RemovedNode(ctx, p.UID)
	if err != nil || !ok || note.Node != p.Node {
		return m, err
	}
	m.State, m.By, m.At = agent.StateRemoved, note.By, note.At
	return m, nil
}

// removalWatch stops k0s on this host once the cluster has removed it. It asks the other controllers; both sides
// authenticate each other. A refused request never counts as a removal.
type removalWatch struct {
	*action.Env
	newClient func() (membershipClient, error) // with the certificate that is on the disk now
	// refresh stores the controllers that loadbalancer.KnownControllers returns; nil on a worker, whose load balancer does it.
	refresh func(ctx context.Context, self nodecert.NodeID)
}

// membershipClient asks controllers about this node; see agent.MembershipClient.
type membershipClient interface {
	Self() nodecert.NodeID
	Ask(ctx context.Context, controller netip.Addr) (agent.Membership, error)
}

// newRemovalWatch returns the watch of a host. It reads the certificate for each check: the agent still has the one of an
// earlier admission for a moment after the host has joined again.
func newRemovalWatch(env *action.Env, refresh func(context.Context, nodecert.NodeID)) removalWatch {
	return removalWatch{Env: env, refresh: refresh, newClient: func() (membershipClient, error) {
		cert, ca, err := loadStoredCert(env)
		if err != nil {
			return nil, err
		}
		return agent.NewMembershipClient(cert, token.PublicKeyPin(ca))
	}}
}

// run checks at each tick until ctx ends.
func (w removalWatch) run(ctx context.Context, tick <-chan time.Time) {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		err := w.check(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			w.Note("cannot stop k0s, though this host was removed from the cluster: " + err.Error())
		}
		failing = err != nil
	}
}

// check asks the cluster once, and does what its answer requires. It does nothing while a command changes this host,
// which may be joining again or leaving. An error is one of this host; a cluster that does not answer is none.
func (w removalWatch) check(ctx context.Context) error {
	if _, held := w.LockHolder(); held {
		return nil
	}
	client, err := w.newClient()
	if err != nil {
		return nil //nolint:nilerr // not a node yet, or a file is being replaced
	}
	answers := w.ask(ctx, client)
	self := client.Self()
	if removed, ok := agent.IsRemoved(self, answers); ok {
		return w.stop(ctx, node.Removal{Node: self.Node, UID: self.UID, By: removed.By, At: removed.At})
	}
	if slices.ContainsFunc(answers, func(m agent.Membership) bool { return m.UID == self.UID && m.State == agent.StateMember }) {
		return w.forgetRemoval()
	}
	return nil
}

// ask returns the answers of controllers: of the first one that answers, in random order, or of all of them if it says
// that this node was removed.
func (w removalWatch) ask(ctx context.Context, client membershipClient) (answers []agent.Membership) {
	if w.refresh != nil {
		w.refresh(ctx, client.Self())
	}
	controllers, err := loadbalancer.KnownControllers(w.Host, w.DataDir)
	if err != nil {
		return nil
	}
	rand.Shuffle(len(controllers), func(i, j int) { controllers[i], controllers[j] = controllers[j], controllers[i] })
	for _, address := range controllers {
		m, err := client.Ask(ctx, address)
		if err != nil {
			continue
		}
		answers = append(answers, m)
		if m.State != agent.StateRemoved {
			break
		}
	}
	return answers
}

// stop records the removal and stops k0s, if it runs or would start at boot, and the programs of pods, which also run
// on after a k0s that someone else has stopped.
func (w removalWatch) stop(ctx context.Context, r node.Removal) error {
	recorded, ok, err := node.ReadRemoval(w.Host, w.DataDir)
	if err != nil || !ok {
		if err := r.Write(w.Host, w.DataDir); err != nil {
			return err
		}
		w.Note(agent.AuditEvent{Event: agent.AuditRemoval, Node: r.Node, Result: r.String() + "; stopping k0s and its pods"}.String())
		recorded = r
	}
	running, err := w.stopKinds()[0].Find(ctx)
	if err != nil || len(running) == 0 && recorded.Stopped {
		return err
	}
	return w.startStopper(ctx)
}

// stopperUnit is the transient unit that stops k0s.
const stopperUnit = "plinth-stop-removed-node"

// startStopper starts StopRemovedNode outside of the restrictions of the agent's unit, which may not end the programs
// of pods.
func (w removalWatch) startStopper(ctx context.Context) error {
	st, err := w.Host.UnitState(ctx, stopperUnit+".service")
	if err != nil || st.StartingOrRunning() {
		return err
	}
	_, err = w.Host.Run(ctx, host.Cmd{Argv: []string{"systemd-run", "--quiet", "--collect", "--unit=" + stopperUnit, "--description=Plinth stops k0s on a host that was removed from its cluster",
		node.AgentBinary, "--data-dir", strings.ReplaceAll(w.DataDir, "$", "$$"), "agent", "--stop-removed-node"}, Timeout: time.Minute})
	return err
}

// forgetRemoval deletes the record of a removal, because the cluster has this admission again: it was restored to a
// time before the removal. k0s stays as it is.
func (w removalWatch) forgetRemoval() error {
	r, ok, err := node.ReadRemoval(w.Host, w.DataDir)
	if err != nil || !ok {
		return nil //nolint:nilerr // a damaged record is replaced with the next removal
	}
	w.Note(fmt.Sprintf("node %s belongs to the cluster again; k0s stays stopped until: systemctl enable --now %s", r.Node, w.unit()))
	return w.Host.RemoveAll(node.RemovalPath(w.DataDir))
}

// unit returns the unit of k0s on this host.
func (w removalWatch) unit() string {
	if why, err := loadbalancer.SeedNeeded(w.Host, w.DataDir); err == nil && why == "" {
		return k0s.WorkerUnit
	}
	return k0s.ControllerUnit
}

// StopRemovedNode stops and disables k0s on a host that the cluster has removed, and ends the programs of its pods: k0s
// leaves them running, and nothing would ever end them. It changes no files.
func StopRemovedNode(ctx context.Context, env *action.Env) error {
	if err := action.RequireRoot(stopping); err != nil {
		return err
	}
	return stopRemovedNode(ctx, env)
}

// stopping names what StopRemovedNode does, for problems.
const stopping = "stop k0s on this host"

func stopRemovedNode(ctx context.Context, env *action.Env) error {
	r, ok, err := node.ReadRemoval(env.Host, env.DataDir)
	switch {
	case err != nil:
		return problem.New(problem.ExitInternal, stopping, err, "")
	case !ok:
		return problem.New(problem.ExitUsage, stopping, errors.New("the cluster has not removed this host"), "nothing was changed")
	}
	if holder, held := env.LockHolder(); held {
		return problem.Newf(problem.ExitLocked, stopping, "nothing was changed", "another run changes this host: %s", holder)
	}
	var errs []error
	for _, k := range (removalWatch{Env: env}).stopKinds() {
		errs = append(errs, k.Remove(ctx).Err)
	}
	if err := errors.Join(errs...); err != nil {
		return problem.New(problem.ExitInternal, stopping, err, "sudo plinth reset node")
	}
	if err := recordStopped(env); err != nil {
		return problem.New(problem.ExitInternal, stopping, err, "sudo plinth reset node")
	}
	env.Note(r.String() + "; k0s is stopped; run: sudo plinth reset node")
	return nil
}

// recordStopped records that nothing is left to stop, unless a reset meanwhile removes the record or has removed it.
func recordStopped(env *action.Env) error {
	r, ok, err := node.ReadRemoval(env.Host, env.DataDir)
	if _, held := env.LockHolder(); err != nil || !ok || held {
		return err
	}
	r.Stopped = true
	return r.Write(env.Host, env.DataDir)
}

// stopKinds returns what is stopped on a removed host: k0s, then the processes of its pods.
func (w removalWatch) stopKinds() []cleanup.Kind {
	return cleanup.StopKinds(cleanup.Finder{Host: w.Host, Scope: cleanup.DefaultScope()})
}

// refreshControllers stores the other controllers of this controller's cluster: after its removal, its own API server
// does not answer.
func (d joinServer) refreshControllers(ctx context.Context, self nodecert.NodeID) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	records, err := d.nodeRecords(ctx)
	if err != nil || records[self.Node].UID != self.UID {
		return
	}
	if err := loadbalancer.SavePeers(d.Host, d.DataDir, records.OtherControllers(self.Node)); err != nil {
		d.Note("cannot store the other controllers of the cluster: " + err.Error())
	}
}

// refreshTimeout limits the query of this controller's own API server, which does not answer after a removal.
const refreshTimeout = 5 * time.Second
