// Package status reports what is installed on this host and the state of its cluster.
package status

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/action/certificates"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/problem"
)

// Status is what is installed on this host and its state. Its JSON format is public.
type Status struct {
	Time      time.Time         `json:"time,omitzero"` // when it was read, UTC
	Installed bool              `json:"installed"`
	Name      string            `json:"name,omitempty"`
	Role      string            `json:"role,omitempty"`
	Bundle    string            `json:"bundle,omitempty"`
	Versions  map[string]string `json:"versions,omitempty"`
	Service   string            `json:"service,omitempty"` // systemd state of k0s: active, failed, …
	Agent     string            `json:"agent,omitempty"`   // systemd state of plinth-agent
	nodes.ClusterView
	AddOns       []AddOnStatus  `json:"addons,omitempty"`
	Console      *ConsoleStatus `json:"console,omitempty"`
	Certificates []Certificate  `json:"certificates,omitempty"`
	Removed      bool           `json:"removed,omitempty"`    // the cluster has removed this host, which stopped k0s
	Unfinished   *Unfinished    `json:"unfinished,omitempty"` // a run that was killed or failed
	Backup       *Backup        `json:"backup,omitempty"`     // last backup of the control plane that this host wrote
	Snapshot     *Snapshot      `json:"snapshot,omitempty"`   // last complete snapshot of the console or an application
	Upgrade      *Upgrade       `json:"upgrade,omitempty"`    // last upgrade of the cluster, while it is unfinished or can be rolled back
	Running      *Running       `json:"running,omitempty"`    // a run that changes this host now
	Warnings     []string       `json:"warnings,omitempty"`   // checks skipped by the user, and current problems
}

// AddOnStatus is the state of one add-on in the cluster.
type AddOnStatus struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"` // why it is not ready

	err error // the cause of Reason; nil if there is none
}

// ConsoleStatus is the state of the KOTS admin console.
type ConsoleStatus struct {
	URL     string `json:"url"`
	Ready   bool   `json:"ready"`
	Version string `json:"version,omitempty"` // as reported by the console itself
	Reason  string `json:"reason,omitempty"`  // why it is not ready

	err error // the cause of Reason; nil if there is none
}

// Certificate is a certificate on this host or of its cluster, and its expiry.
type Certificate struct {
	Name    string    `json:"name"`
	Path    string    `json:"path"` // or object of the cluster
	Expires time.Time `json:"expires"`
}

// Unfinished is a run that has to be resumed or reset.
type Unfinished struct {
	Verb      string    `json:"verb"`
	StartedAt time.Time `json:"startedAt"`
	Step      string    `json:"step"`             // where it stopped
	Failed    string    `json:"failed,omitempty"` // reason; "" if it was killed
}

// Upgrade is the last upgrade of the cluster.
type Upgrade struct {
	From        string    `json:"from"`        // digest of the bundle before
	To          string    `json:"to"`          // digest of the bundle after
	Phase       string    `json:"phase"`       // what it does now, or how it ended: "done"
	Coordinator string    `json:"coordinator"` // node on which the command was started
	StartedAt   time.Time `json:"startedAt"`   // UTC
	Unfinished  bool      `json:"unfinished"`  // it has to be resumed or rolled back on that node
	CanRollBack bool      `json:"canRollBack"` // this host has the snapshot for a rollback

	Why   string          `json:"why,omitempty"`   // why it has stopped
	Nodes []UpgradingNode `json:"nodes,omitempty"` // other nodes of the cluster, by name
}

// UpgradingNode is the state of a node in an upgrade, besides the one on which the command was started.
type UpgradingNode struct {
	Name  string    `json:"name"`
	State string    `json:"state"`         // delivering, delivered, draining, upgrading, upgraded, failed, rolling-back, rolled-back or skipped
	Since time.Time `json:"since"`         // UTC
	Why   string    `json:"why,omitempty"` // why it failed or was rolled back
}

// Backup is the last backup of the control plane that this host wrote.
type Backup struct {
	backup.Record
	AgeSeconds int64  `json:"ageSeconds,omitempty"` // of the last good one
	Schedule   string `json:"schedule,omitempty"`   // of the Installer; "" for none
	To         string `json:"to,omitempty"`         // where the schedule writes to
}

// Snapshot is the last complete snapshot of the console or of an application in the cluster.
type Snapshot struct {
	Name       string    `json:"name"`
	TakenAt    time.Time `json:"takenAt"` // UTC
	AgeSeconds int64     `json:"ageSeconds,omitempty"`
}

// Running is a run that changes this host now.
type Running struct {
	journal.Holder
	Step         string `json:"step,omitempty"`  // current step; "" if it has not changed anything yet
	StepsStarted int    `json:"begun,omitempty"` // number of started steps, including the current one
	Steps        int    `json:"steps,omitempty"` // number of steps to do at the start of the run; 0 if unknown
}

// WithRunning returns s with the run of holder, which changes the host now. If the
// unfinished run in s is the one of holder, it is not unfinished but running.
func (s Status) WithRunning(holder journal.Holder, runs []journal.Run) Status {
	s.Running = &Running{Holder: holder}
	if s.Unfinished == nil || len(runs) == 0 {
		return s
	}
	last := runs[len(runs)-1]
	if !last.IsOf(holder) {
		return s // holder has not changed anything yet
	}
	s.Unfinished = nil
	s.Running.StepsStarted = len(last.Steps)
	s.Running.Steps = last.Args.Steps
	if len(last.Steps) > 0 {
		s.Running.Step = last.ReachedStep()
	}
	return s
}

// statusTimeout is the timeout for all queries of the cluster. The status is complete
// within two seconds, even if the cluster does not answer.
const statusTimeout = 1500 * time.Millisecond

// Get returns the status of the host of r and of its cluster. It changes nothing.
func Get(ctx context.Context, env *action.Env) (Status, error) {
	if err := action.RequireRoot("read the status"); err != nil {
		return Status{}, err
	}
	readOnly := env.ReadOnly()
	s, err := Inspect(ctx, readOnly.Host, env.DataDir, env.Now)
	if err != nil {
		return s, err
	}
	j, err := journal.Open(readOnly.Host, env.DataDir, env.Now)
	if err != nil {
		return s, err
	}
	r, _, err := journal.ReadReceipt(readOnly.Host, env.DataDir)
	if err != nil {
		return s, err
	}
	s = s.WithIdentity(probe.Gather(ctx, readOnly.Host, facts.Request{LocalOnly: true}), desired.RecordedIdentity(j, r))
	if holder, held := env.LockHolder(); held {
		s = s.WithRunning(holder, j.Runs())
	}
	return s, nil
}

// WithIdentity returns s with a first warning if the host with the facts f no longer has
// the name, machine id or address that its install or join recorded.
func (s Status) WithIdentity(f facts.Facts, recorded facts.Identity) Status {
	if found, fix := hostpreflight.IdentityChanges(f, recorded); found != "" {
		s.Warnings = slices.Insert(slices.Clone(s.Warnings), 0, found+"; "+fix)
	}
	return s
}

// Inspect returns the status of the host h, which should be read-only, and of its cluster.
// A cluster that does not answer is a warning in the status, not an error.
func Inspect(ctx context.Context, h host.Host, dataDir string, now func() time.Time) (Status, error) {
	j, err := journal.Open(h, dataDir, now)
	if err != nil {
		return Status{}, err
	}
	r, installed, err := journal.ReadReceipt(h, dataDir)
	if err != nil {
		return Status{}, err
	}
	s := Status{Time: now().UTC(), Installed: installed, Name: r.Name, Role: r.Role, Bundle: r.Bundle, Versions: r.Versions, Warnings: slices.Clone(r.Warnings)}
	if j.RecoveryNotice() != "" {
		s.Warnings = append(s.Warnings, j.RecoveryNotice())
	}
	if len(j.Runs()) == 0 {
		return s, nil
	}
	if last, ok := j.LastUnfinished(); ok {
		s.Unfinished = &Unfinished{Verb: last.Verb, StartedAt: last.StartedAt, Step: last.ReachedStep(), Failed: last.Failed}
	}
	service := s.Unit()
	for unit, word := range map[string]*string{service: &s.Service, node.AgentUnit: &s.Agent} {
		state, err := h.UnitState(ctx, unit)
		if err != nil {
			return s, err
		}
		*word = state.Active
		if unit == service && installed && state.Load == "loaded" && !state.StartingOrRunning() {
			s.Warnings = append(s.Warnings, fmt.Sprintf("k0s is not running (%s), so nothing of the cluster runs on this host; its log: sudo journalctl -u %s", state.Active, unit))
		}
	}
	if why := (node.Volumes{DataDir: dataDir}).Exposed(h); why != "" {
		dir := problem.QuoteWord(filepath.Join(dataDir, node.VolumesDir))
		s.Warnings = append(s.Warnings, "users of this host other than root can reach the volumes: "+why+"; fix it with: chown root:root "+dir+" && chmod 0700 "+dir)
	}
	if err := s.addBackup(ctx, h, dataDir, now()); err != nil {
		return s, err
	}
	s.addCertificates(certificates.ReadHost(h, dataDir, now()), now())
	if removed, ok, err := node.ReadRemoval(h, dataDir); err == nil && ok { // its cluster does not answer it any more
		s.Removed = true
		s.Warnings = append(s.Warnings, removed.String()+"; run: sudo plinth reset node")
		return s, nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	inspectCluster(ctx, h, r, &s, now())
	if installed && r.Role != nodes.Worker { // a worker's credentials can only read nodes
		s.Upgrade = upgradeStatus(ctx, h, dataDir)
	}
	if !installed {
		s.markJoining(desired.RecordedIdentity(j, r))
	}
	return s, nil
}

// markJoining marks this host's node, which an unfinished install or join has recorded as self: its
// last steps admit it.
func (s *Status) markJoining(self facts.Identity) {
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.Name != self.Node || n.Admitted {
			continue
		}
		n.Joining, n.Role = true, nodes.Controller
		if self.Unit == k0s.WorkerUnit {
			n.Role = nodes.Worker
		}
	}
}

// Unit returns the systemd unit of k0s on this host.
func (s Status) Unit() string {
	if s.Role == nodes.Worker {
		return k0s.WorkerUnit
	}
	return k0s.ControllerUnit
}

// inspectCluster queries the nodes, the add-ons and the console concurrently and sets
// them in s. Failed queries become warnings.
func inspectCluster(ctx context.Context, h host.Files, r journal.Receipt, s *Status, now time.Time) {
	client, _, err := nodes.NewClient(h)
	if errors.Is(err, fs.ErrNotExist) {
		if !s.Installed { // k0s has not been started yet, or a reset has removed it
			return
		}
		err = errors.New("this host has no credentials for it")
	}
	if err != nil {
		s.warnNoAnswer(err)
		return
	}
	var queries sync.WaitGroup
	var certs []certificates.Certificate
	var snapshots snapshotState
	var missing []kube.PVC
	if r.Role != nodes.Worker { // a worker's credentials can only read nodes
		queries.Go(func() { s.AddOns = addOnStatuses(ctx, client, r) })
		queries.Go(func() { certs, _ = certificates.ReadCluster(ctx, client, r, now) }) // the other queries report an error
		queries.Go(func() { snapshots = inspectSnapshots(ctx, client, r, now) })
		queries.Go(func() { missing, _ = kube.PVCsOfMissingNodes(ctx, client) })
		if r.Console.Port != 0 {
			queries.Go(func() { s.Console = consoleStatus(ctx, client, r) })
		}
	}
	s.ClusterView, err = nodes.Inspect(ctx, h)
	queries.Wait()
	s.addCertificates(certs, now)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		s.Warnings = append(s.Warnings, "the cluster does not answer within "+statusTimeout.String())
	case err != nil:
		s.warnNoAnswer(err)
	}
	s.Warnings = append(append(s.Warnings, s.Problems...), snapshots.warnings...)
	s.Warnings = append(s.Warnings, missingNodeWarnings(missing)...)
	s.Snapshot = snapshots.last
	for _, a := range s.AddOns {
		if a.err != nil {
			s.Details = append(s.Details, a.Name+": "+a.err.Error())
		}
	}
	if s.Console != nil && s.Console.err != nil {
		s.Details = append(s.Details, "console: "+s.Console.err.Error())
	}
}

// missingNodeWarnings returns a warning for each claim on a volume of a node that the cluster does not have any more.
func missingNodeWarnings(claims []kube.PVC) (warnings []string) {
	for _, c := range claims {
		warnings = append(warnings, fmt.Sprintf("the volume of claim %s is on node %s, which is not in the cluster: its pods wait until you delete the claim and create it again: "+
			"plinth kubectl delete pvc -n %s %s", c, c.Node, c.Namespace, c.Name))
	}
	return warnings
}

// warnNoAnswer adds the warning that the cluster does not answer, because of err.
func (s *Status) warnNoAnswer(err error) {
	s.Warnings = append(s.Warnings, "the cluster does not answer: "+problem.ExplainConnection(err))
	s.Details = append(s.Details, "cluster: "+err.Error())
}

// upgradeStatus returns the last upgrade of the cluster; nil if there was none, or it is over and cannot be
// rolled back here.
func upgradeStatus(ctx context.Context, h host.Files, dataDir string) *Upgrade {
	client, _, err := nodes.NewClient(h)
	if err != nil {
		return nil
	}
	r, err := client.UpgradeRecord(ctx)
	if err != nil || r.To == "" { // a cluster that does not answer is reported by another query
		return nil
	}
	snapshot, found, err := plan.FindSnapshot(h, dataDir)
	u := &Upgrade{From: r.From, To: r.To, Phase: string(r.Phase), Coordinator: r.Coordinator, StartedAt: r.StartedAt, Unfinished: r.Active(), CanRollBack: err == nil && found && snapshot.To == r.To}
	if !u.Unfinished && !u.CanRollBack {
		return nil
	}
	u.Why = r.Why
	for _, name := range slices.Sorted(maps.Keys(r.Nodes)) {
		n := r.Nodes[name]
		u.Nodes = append(u.Nodes, UpgradingNode{Name: name, State: string(n.State), Since: n.Since, Why: n.Why})
	}
	return u
}

// addOnStatuses returns the state of each add-on, from the state of its pods.
func addOnStatuses(ctx context.Context, client *kube.Client, r journal.Receipt) []AddOnStatus {
	out := make([]AddOnStatus, len(r.AddOns))
	var queries sync.WaitGroup
	for i, part := range r.AddOns {
		queries.Go(func() {
			reason, err := addOnReason(ctx, client, part)
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				reason = "the cluster did not answer in time"
			case err != nil:
				reason = "the cluster does not answer: " + problem.ExplainConnection(err)
			}
			out[i] = AddOnStatus{Name: part.Name, Version: part.Version, Ready: reason == "", Reason: reason, err: err}
		})
	}
	queries.Wait()
	return out
}

// addOnReason returns why an add-on is not ready, or "". A namespace belongs to an add-on of Plinth alone, but it can
// have several charts of a vendor, or one without pods.
func addOnReason(ctx context.Context, client *kube.Client, a journal.AddOn) (string, error) {
	if a.External {
		return helm.NotReadyReason(ctx, client, a.Namespace, a.Name)
	}
	return client.PodsReason(ctx, a.Namespace)
}

// consoleStatus returns the state of the console, as reported by its own health endpoint
// at this node's address.
func consoleStatus(ctx context.Context, client *kube.Client, r journal.Receipt) *ConsoleStatus {
	c := &ConsoleStatus{URL: desired.ConsoleURL(r.Console, r.Address)}
	var queries sync.WaitGroup
	var stuck string
	queries.Go(func() { stuck = consoleStuckReason(ctx, client, r) })
	cert, _, err := kots.ConsoleProxy{Kube: client, Namespace: r.Console.Namespace}.Certificate(ctx)
	if err == nil {
		var h kots.ConsoleHealth
		h, err = kots.GetConsoleHealth(ctx, desired.ConsoleURL(journal.Console{Port: r.Console.Port}, r.Address), cert)
		c.Version, c.Ready = h.Version, err == nil && h.Database && h.Storage
	}
	queries.Wait()
	switch {
	case !c.Ready && stuck != "":
		c.Reason = stuck
	case err != nil:
		c.Reason, c.err = problem.ExplainConnection(err), err
	case !c.Ready:
		c.Reason = "it answers, but its database or its storage is not available"
	}
	return c
}

// consoleStuckReason returns the reason why the console cannot start: its files are on a
// node that is not Ready. It returns "" if that is not the case or cannot be determined.
func consoleStuckReason(ctx context.Context, client *kube.Client, r journal.Receipt) string {
	name, err := kube.PVCNode(ctx, client, r.Console.Namespace, kots.DataPVCName)
	if err != nil || name == "" {
		return ""
	}
	if n, err := client.Node(ctx, name); err != nil || n.Ready {
		return ""
	}
	if name == r.Node { // its files are here: never advise to discard them
		return fmt.Sprintf("its files are only on this host, whose node %s is not Ready; it is available again when the node is: sudo systemctl restart %s", name, k0s.ControllerUnit)
	}
	return fmt.Sprintf("its files are only on node %s, which is not Ready; it is available again when that node is back. To discard its files and start it on another node: plinth node remove %s --force", name, name)
}

// addCertificates adds certificates to s, sorted by expiry, and the warnings about them.
func (s *Status) addCertificates(all []certificates.Certificate, now time.Time) {
	for _, c := range all {
		if w := c.Warning(now); w != "" {
			s.Warnings = append(s.Warnings, w)
		}
		if c.Problem == "" && !c.Ends.IsZero() {
			s.Certificates = append(s.Certificates, Certificate{Name: c.Name, Path: c.Location, Expires: c.Ends})
		}
	}
	slices.SortStableFunc(s.Certificates, func(x, y Certificate) int { return x.Expires.Compare(y.Expires) })
}
