package upgrade

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
)

// DeliverVerb is the verb of the runs in the journal that fetch what an upgrade needs.
const DeliverVerb = "deliver"

// follower describes the upgrade of this node by another controller.
type follower struct {
	origin desired.BundleOrigin // where the bundle comes from
}

// RunNode runs one phase of the upgrade of this host, which a controller has started through this host's agent. It
// writes the state of the phase to a file, which the agent reports. phase is one of agent.UpgradePhase; bundle and program
// are the digests of an agent.UpgradeRequest.
func RunNode(ctx context.Context, env *action.Env, phase, bundle, program string) error {
	const doing = "upgrade this node"
	q := agent.UpgradeRequest{Phase: agent.UpgradePhase(phase), Bundle: digest.Digest(bundle), Program: digest.Digest(program)}
	if err := env.RequireHost(doing); err != nil {
		return err
	}
	if !q.IsValid() {
		return problem.Newf(problem.ExitUsage, doing, "a controller starts it: sudo plinth upgrade", "the phase or the digest of the bundle is missing")
	}
	receipt, err := env.RequireInstalled(doing)
	if err != nil {
		return err
	}
	w := newPhaseWriter(env, q)
	err = runNodePhase(ctx, w.withEvents(env), q, receipt, openFromCluster)
	return errors.Join(err, w.end(ctx, err))
}

// openCluster opens the index of a bundle, its origin, and a source of its blobs at the controllers of the cluster.
type openCluster func(ctx context.Context, env *action.Env, bundle digest.Digest) (clusterBundle, error)

// clusterBundle is a bundle as the controllers of the cluster serve it. Nothing of it is verified.
type clusterBundle struct {
	index  []byte
	origin desired.BundleOrigin
	open   func(ctx context.Context) (*airgap.Bundle, error) // parses the index
	blobs  blob.Source
	close  func()
}

// runNodePhase runs a phase. A check that refuses the upgrade leaves nothing behind.
func runNodePhase(ctx context.Context, env *action.Env, q agent.UpgradeRequest, receipt journal.Receipt, open openCluster) error {
	switch q.Phase {
	case agent.UpgradeProgram:
		return fetchProgram(ctx, env, q, receipt, open)
	case agent.UpgradeRollback:
		r := rollback{why: "a controller rolls the upgrade of the cluster back", follows: q.Bundle, discards: action.FetchDir}
		_, err := action.Execute(ctx, env, r.engineOperation())
		return err
	case agent.UpgradeCommit:
		_, err := action.Execute(ctx, env, commitOperation(false))
		return err
	}
	err := runBundlePhase(ctx, env, q, receipt, open)
	if err == nil || q.Phase != agent.UpgradeCheck || ctx.Err() != nil {
		return err
	}
	if s, begun, findErr := plan.FindSnapshot(env.Host, env.DataDir); findErr == nil && begun && s.To == q.Bundle.String() {
		return err
	}
	return errors.Join(err, discardStaged(ctx, env))
}

// runBundlePhase runs a phase that needs the new bundle.
func runBundlePhase(ctx context.Context, env *action.Env, q agent.UpgradeRequest, receipt journal.Receipt, open openCluster) error {
	bundle, closeBundle, err := openNodeBundle(ctx, env, q.Bundle, receipt, open)
	if err != nil {
		return err
	}
	defer closeBundle()
	_, err = action.Execute(ctx, env, bundle.nodeOperation(q.Phase))
	return err
}

// discardStaged removes the bundles that are staged for an upgrade that is refused.
func discardStaged(ctx context.Context, env *action.Env) error {
	_, err := env.StepRunner(Verb, nil).Run(ctx, []step.Step{desired.DiscardFetched(env.Host, desired.StagedBundlesDir)})
	return err
}

// nodeOperation returns a phase as action.Execute runs it.
func (o *operation) nodeOperation(phase agent.UpgradePhase) action.Operation {
	op := action.Operation{Verb: Verb, Resolve: o.finishRollback, Inspect: o.inspect, Steps: o.steps, IsRecorded: o.isRecorded, JournalArgs: o.journalArgs, Record: o.writeReceipt, Failed: o.rollBack}
	if phase == agent.UpgradeSwitch {
		return op
	}
	op.Verb, op.Resolve, op.Record, op.Failed, op.IsRecorded, op.Steps = DeliverVerb, nil, nil, nil, nil, o.deliverSteps
	if phase == agent.UpgradeCheck {
		op.PlanOnly, op.Preflights = true, o.runPreflights
	}
	return op
}

// deliverSteps returns the steps that fetch what this node needs.
func (o *operation) deliverSteps(ctx context.Context, env *action.Env) ([]step.Step, error) {
	if o.isRecorded() || o.hasBegun() { // it has been upgraded, or that has begun
		return nil, nil
	}
	return desired.DeliverNodeSteps(ctx, o.target(env), o.bundle, o.config, o.transition(env))
}

// openNodeBundle opens and verifies the bundle of an upgrade: the one that this node has fetched, or else that of the
// cluster's controllers.
func openNodeBundle(ctx context.Context, env *action.Env, d digest.Digest, receipt journal.Receipt, open openCluster) (o *operation, closeBundle func(), err error) {
	stagedOr := func(ctx context.Context, env *action.Env, d digest.Digest) (clusterBundle, error) {
		b, err := openStaged(ctx, env, d)
		if errors.Is(err, fs.ErrNotExist) {
			return open(ctx, env, d)
		}
		return b, err
	}
	b, bundle, result, err := openVerified(ctx, env, d, receipt, stagedOr)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	raw, err := bundle.Installer(ctx)
	if err != nil {
		return nil, nil, err
	}
	in, findings := spec.ParseInstaller("installer.yaml in the bundle", raw)
	if in == nil {
		return nil, nil, spec.FindingsError("use the bundle", findings)
	}
	if result.Warning != "" {
		env.Note("warning: " + result.Warning)
	}
	o = &operation{config: config.Config{Installer: in, Trust: result}, bundle: bundle, to: d.String(), follows: &follower{origin: b.origin}}
	o.opened.Bundle = bundle
	return o, b.close, nil
}

// openVerified opens the bundle of an upgrade and verifies its index for this host. The caller closes b.
func openVerified(ctx context.Context, env *action.Env, d digest.Digest, receipt journal.Receipt, open openCluster) (b clusterBundle, bundle *airgap.Bundle, result trust.Result, err error) {
	if b, err = open(ctx, env, d); err != nil {
		return b, nil, result, problem.New(problem.ExitBundle, "fetch the bundle of the upgrade from the cluster", err, "nothing on this host was changed")
	}
	policy, err := nodePolicy(env, receipt, b.origin)
	if err == nil {
		bundle, result, err = verifyClusterBundle(ctx, b, d, policy)
	}
	if err != nil {
		b.close()
	}
	return b, bundle, result, err
}

// fetchProgram stores the plinth executable that runs the other phases, if that is not this one. The bundle must name it,
// so that the vendor has signed for it. The Installer of the bundle is not read: this executable may be too old for it.
func fetchProgram(ctx context.Context, env *action.Env, q agent.UpgradeRequest, receipt journal.Receipt, open openCluster) error {
	self, err := env.AgentArtifact()
	if err != nil || q.Program == "" || q.Program == self.Digest {
		return err
	}
	b, bundle, _, err := openVerified(ctx, env, q.Bundle, receipt, open)
	if err != nil {
		return err
	}
	defer b.close()
	file, ok := desired.StageProgram(bundle, q.Program, func(size int64) (io.ReadCloser, error) {
		return b.blobs.Open(ctx, ocispec.Descriptor{MediaType: "application/octet-stream", Digest: q.Program, Size: size})
	})
	if !ok {
		return problem.Newf(problem.ExitBundle, "take the plinth executable of the controller that upgrades this node", "run the upgrade with a plinth executable that the bundle names; nothing on this host was changed",
			"the bundle does not name it: %s", q.Program)
	}
	_, err = action.Execute(ctx, env, action.Operation{Verb: DeliverVerb, Steps: func(context.Context, *action.Env) ([]step.Step, error) {
		return []step.Step{plan.StageProgram(env.Host, file)}, nil
	}})
	return err
}

// verifyClusterBundle verifies that a bundle is the one with the digest d, that the vendor of this host's cluster has
// signed it, and that it is not older than the installed one. It parses nothing of an index that is not verified.
func verifyClusterBundle(ctx context.Context, b clusterBundle, d digest.Digest, policy trust.Policy) (*airgap.Bundle, trust.Result, error) {
	const name = "of the upgrade"
	if have := digest.FromBytes(b.index); have != d {
		return nil, trust.Result{}, problem.Newf(problem.ExitBundle, "trust the bundle "+name, "nothing on this host was changed", "its digest is %s instead of %s", have, d)
	}
	raw := signedIndex{index: b.index, signature: b.origin.Signature, release: policy.Pin.Release}
	if _, err := trust.Verify(name, raw, policy); err != nil {
		return nil, trust.Result{}, err
	}
	bundle, err := b.open(ctx)
	if err != nil {
		return nil, trust.Result{}, err
	}
	raw.release, raw.expires = bundle.Release(), bundle.Expires()
	result, err := trust.Verify(name, raw, policy)
	return bundle, result, err
}

// signedIndex is an index with its signature, for trust.Verify.
type signedIndex struct {
	index, signature []byte
	release          int64
	expires          time.Time
}

func (s signedIndex) Digest() digest.Digest { return digest.FromBytes(s.index) }
func (s signedIndex) RawIndex() []byte      { return s.index }
func (s signedIndex) Signature() []byte     { return s.signature }
func (s signedIndex) Release() int64        { return s.release }
func (s signedIndex) Expires() time.Time    { return s.expires }

// nodePolicy returns the policy by which this host accepts the bundle of an upgrade that a controller started. It
// accepts an unsigned one only if it has never accepted a signed one, and its program has no vendor's key.
func nodePolicy(env *action.Env, receipt journal.Receipt, origin desired.BundleOrigin) (p trust.Policy, err error) {
	p = trust.Policy{Now: env.Now()}
	if p.Key, err = source.PublicKey(""); err != nil {
		return p, err
	}
	if p.Pin, err = source.PinnedVendor(receipt); err != nil {
		return p, err
	}
	p.AllowUnsigned = p.Pin.Key.IsZero() && p.Key.IsZero()
	if len(origin.KeyRotation) > 0 {
		rotation, err := trust.ParseKeyRotation(origin.KeyRotation)
		if err != nil {
			return p, problem.New(problem.ExitBundle, "verify the vendor's new key", err, "nothing on this host was changed")
		}
		p.Rotation = &rotation
	}
	return p, nil
}

// openStaged opens what an earlier phase has fetched; the error is fs.ErrNotExist if there is nothing complete.
func openStaged(ctx context.Context, env *action.Env, d digest.Digest) (b clusterBundle, err error) {
	b.close = func() {}
	if b.index, b.origin, err = desired.ReadStagedIndex(env.Host, d); err != nil {
		return b, err
	}
	b.open = func(ctx context.Context) (*airgap.Bundle, error) { return desired.OpenStagedBundle(ctx, env.Host, d) }
	if digest.FromBytes(b.index) != d {
		return b, fs.ErrNotExist
	}
	return b, ctx.Err()
}

// openFromCluster opens a bundle at the controllers of the cluster.
func openFromCluster(ctx context.Context, env *action.Env, d digest.Digest) (b clusterBundle, err error) {
	client, err := clusterClient(ctx, env)
	if err != nil {
		return b, err
	}
	b.close = client.Close
	offer, err := client.FetchUpgradeOffer(ctx, d)
	if err == nil {
		b.index, err = client.ReadDocument(ctx, d, limit.Document)
	}
	if err != nil {
		client.Close()
		return b, err
	}
	if len(offer.Signature) > limit.Signature || len(offer.KeyRotation) > maxKeyRotation {
		client.Close()
		return b, errors.New("the signature or the key rotation that a controller serves is too large")
	}
	b.origin = desired.BundleOrigin{Signature: offer.Signature, KeyRotation: offer.KeyRotation}
	b.blobs = client
	b.open = func(ctx context.Context) (*airgap.Bundle, error) {
		return airgap.OpenFromStore(ctx, b.index, client, "the bundle of the upgrade")
	}
	return b, nil
}

// maxKeyRotation is the maximum size of a key rotation statement, in bytes.
const maxKeyRotation = 16 << 10

// clusterClient returns a client of the other controllers, authenticated by the certificate of this host's agent.
func clusterClient(ctx context.Context, env *action.Env) (*agent.Client, error) {
	identity, err := node.ReadIdentity(env.Host, env.DataDir)
	if err != nil {
		return nil, err
	}
	ca, err := identity.Authority()
	if err == nil && ca == nil {
		err = errors.New("the cluster has not admitted this host")
	}
	if err != nil {
		return nil, err
	}
	cert, err := identity.TLS()
	if err != nil {
		return nil, err
	}
	controllers, err := loadbalancer.KnownControllers(env.Host, env.DataDir)
	if err == nil && len(controllers) == 0 { // on a controller, the agent stores them some seconds after the join
		controllers, err = otherControllers(ctx, env, cert.Leaf)
	}
	if err != nil {
		return nil, fmt.Errorf("this host does not know the controllers of its cluster: %w", err)
	}
	return agent.NewNodeClient(cert, token.PublicKeyPin(ca), controllers)
}

// otherControllers asks this controller's own API server for the addresses of the others. certificate is that of its agent.
func otherControllers(ctx context.Context, env *action.Env, certificate *x509.Certificate) ([]netip.Addr, error) {
	self, ok := nodecert.NodeIDOf(certificate)
	if !ok {
		return nil, errors.New("the certificate of the agent names no node")
	}
	client, err := env.KubeClient()
	if err != nil {
		return nil, err
	}
	records, err := client.NodeRecords(ctx)
	return records.OtherControllers(self.Node), err
}

// rollBackNode restores the state of this node before its upgrade, after a step has failed.
func (o *operation) rollBackNode(ctx context.Context, env *action.Env, failed error) error {
	s, ok, err := plan.FindSnapshot(env.Host, env.DataDir)
	if err != nil || !ok || s.To != o.to {
		return errors.Join(failed, err)
	}
	r := rollback{why: failed.Error(), follows: digest.Digest(o.to), simulate: o.simulateRollback, discards: desired.StagedBundlesDir}
	if _, err := action.ExecuteLocked(ctx, env, r.engineOperation()); err != nil {
		return problem.New(problem.ExitStep, "upgrade this node", plan.NotRestored(failed, err),
			"fix the cause on this node, then run on a controller: sudo plinth upgrade --rollback")
	}
	o.rolledBack = true
	return &undoneError{withHint(failed, "the state of this node before the upgrade was restored")}
}

// undoneError is a failure after which the state before was restored.
type undoneError struct{ error }

func (u *undoneError) Unwrap() error { return u.error }

// phaseWriter writes the state of a phase to a file while it runs.
type phaseWriter struct {
	env     *action.Env
	state   agent.UpgradeState
	written time.Time
}

func newPhaseWriter(env *action.Env, q agent.UpgradeRequest) *phaseWriter {
	return &phaseWriter{env: env, state: agent.UpgradeState{Phase: q.Phase, Bundle: q.Bundle}}
}

// withEvents returns env with events that are written to the file.
func (w *phaseWriter) withEvents(env *action.Env) *action.Env {
	with := *env
	with.Events = func(e step.Event) {
		w.event(e)
		env.Events(e)
	}
	_ = w.write()
	return &with
}

// progressInterval is how often the progress of a step is written.
const progressInterval = 2 * time.Second

// event records the progress of a step. A file that cannot be written stops nothing: the phase would leave the node in
// between.
func (w *phaseWriter) event(e step.Event) {
	switch e.State {
	case step.Skipped:
		return
	case step.Progress:
		w.state.Message, w.state.Bytes, w.state.Total = e.Message, e.Bytes, e.Total
		if w.env.Now().Sub(w.written) < progressInterval {
			return
		}
	default:
		w.state.Step, w.state.Message, w.state.Bytes, w.state.Total = e.Title, e.Message, 0, 0
	}
	_ = w.write()
}

// end records how the phase ended. A phase that failed because ctx was canceled, such as at a shutdown of the host, has not
// ended: like one that was killed, it is started again.
func (w *phaseWriter) end(ctx context.Context, failed error) error {
	if failed != nil && ctx.Err() != nil {
		return w.write()
	}
	w.state.Ended = w.env.Now().UTC()
	if failed != nil {
		var undone *undoneError
		w.state.Failed, w.state.Hint, w.state.Exit, w.state.Undone = failed.Error(), problem.Hint(failed), problem.ExitCode(failed), errors.As(failed, &undone)
	}
	return w.write()
}

func (w *phaseWriter) write() error {
	w.written = w.env.Now()
	w.state.Changed = w.written.UTC()
	return desired.WriteNodePhase(w.env.Host, w.env.DataDir, w.state)
}
