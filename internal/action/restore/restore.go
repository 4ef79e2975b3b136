// Package restore makes one host the only controller of its cluster, after the other controllers were lost: one that
// survived or, after the loss of all, a new host. Or it restores a snapshot of the console in a new cluster.
package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/install"
	"github.com/plinthdev/plinth/internal/action/preflight"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
)

// Options are the options of a restore. One of From, ControlPlane and FromThisNode is set.
type Options struct {
	From         string // store with snapshots: s3://BUCKET/PREFIX, or a folder
	Snapshot     string // name of the one in From; "" for the newest that can be restored
	AppBundle    string // .airgap file with the images of the application, for a store without them; "" for none
	ControlPlane string // file of a backup
	FromThisNode bool   // from the data of etcd on this host
	Key          backup.KeyFlags
	RemoveLost   bool                 // remove the other controllers from the cluster
	Plan         bool                 // only return the plan
	Store        objectstore.Settings // how to reach the object store of From or ControlPlane
	Install      install.Options      // of a restore on a host without a cluster: its bundle, and how the host is used
}

// Result is the result of a restore. Its JSON format is public.
type Result struct {
	Changed  bool           `json:"changed"`
	TakenAt  *time.Time     `json:"takenAt,omitempty"` // of the backup: what was written later is lost
	Lost     []string       `json:"lost,omitempty"`    // controllers that have to join again
	Removed  bool           `json:"removed"`           // the lost controllers were removed from the cluster
	Plan     []step.Planned `json:"plan,omitempty"`    // only with Options.Plan
	Log      string         `json:"log,omitempty"`
	NewHost  *NewHost       `json:"newHost,omitempty"`  // of a restore on a host that had no cluster
	NotReady string         `json:"notReady,omitempty"` // which add-ons are not ready yet, and why
	// Snapshot is only set after a restore of a snapshot.
	Snapshot *RestoredSnapshot `json:"snapshot,omitempty"`
}

const doing = "restore the control plane"

// Verb is the name of the run in the journal.
const Verb = "restore"

// Run restores the control plane on this host, which becomes the only controller of its cluster. Nothing but
// the log changes until the backup is verified completely and the other controllers are found to be away. On a host
// without a cluster, it installs the bundle with the control plane of the backup, or with a snapshot.
func Run(ctx context.Context, env *action.Env, opts Options) (Result, error) {
	if err := env.RequireHost("restore"); err != nil {
		return Result{}, err
	}
	if opts.From != "" {
		opts.Install.Plan = opts.Plan
		return runSnapshot(ctx, env, opts)
	}
	switch isNew, err := opts.isOnNewHost(env); {
	case err != nil:
		return Result{}, err
	case isNew:
		opts.Install.Plan = opts.Plan
		return runOnNewHost(ctx, env, opts)
	}
	o := operation{opts: opts, now: env.Now().UTC(), members: action.ReadEtcdMembers, identify: etcd.IdentifyPeer}
	out, err := action.Execute(ctx, env, o.engineOperation())
	res := Result{Changed: out.Changed, Removed: opts.RemoveLost, Log: out.Log, Lost: o.lost(), NotReady: o.notReady}
	if opts.ControlPlane != "" {
		res.TakenAt = &o.header.TakenAt
	}
	if opts.Plan {
		res.Plan = out.Planned
	}
	return res, err
}

// operation is one restore.
type operation struct {
	opts Options
	now  time.Time
	// members returns the members of the etcd on this host. An error means that it does not answer.
	members  func(ctx context.Context, env *action.Env) ([]etcd.Member, error)
	identify identifyFunc

	receipt   journal.Receipt
	installed desired.InstalledBundle
	address   netip.Addr
	source    string // plan.Restoration.Source
	bytes     int64  // of the snapshot of etcd in the backup
	file      format.Source
	key       format.Key
	header    format.Header
	others    []format.Node // the other controllers, as far as they are known
	ended     bool          // an unfinished run has restored everything, and only its end is missing
	notReady  string        // Result.NotReady

	simulate func(env *action.Env, r plan.Restoration) ([]step.Step, error) // steps for a simulated host; nil for the real ones
}

// engineOperation returns the restore as action.Execute runs it.
func (o *operation) engineOperation() action.Operation {
	return action.Operation{
		Verb:        Verb,
		PlanOnly:    o.opts.Plan,
		Inspect:     o.inspect,                    // verify the backup; refuse what cannot be restored
		Steps:       o.steps,                      // plan.Restore, for this host
		IsRecorded:  func() bool { return false }, // the end of a restore that has done all steps is recorded, too
		Confirm:     o.confirm,
		JournalArgs: o.journalArgs,
	}
}

// inspect refuses a host, a backup and a cluster from which the control plane cannot be restored.
func (o *operation) inspect(ctx context.Context, env *action.Env) (err error) {
	if o.receipt, err = env.RequireInstalled(doing); err != nil {
		return err
	}
	if err := action.RefuseWorker(doing, o.receipt); err != nil {
		return err
	}
	if o.simulate == nil {
		if err := o.inspectHost(ctx, env); err != nil {
			return err
		}
	}
	o.source = plan.ThisNode
	if !o.opts.FromThisNode {
		if err := o.inspectBackup(ctx, env); err != nil {
			return err
		}
	}
	stored, restored, err := plan.RestoreProgress(env.Host, env.DataDir, o.source)
	if err != nil {
		return problem.New(problem.ExitUsage, doing, err, "the state of the unfinished restore cannot be read; nothing was changed")
	}
	if o.opts.FromThisNode && !stored {
		if _, err := env.Host.Lstat(k0s.EtcdDatabase); err != nil {
			return problem.New(problem.ExitUsage, doing, fmt.Errorf("this host has no data of etcd: %s: %w", k0s.EtcdDatabase, problem.PathCause(err)),
				"restore from a backup: plinth restore --control-plane FILE")
		}
	}
	if err := o.checkRuns(env); err != nil {
		return err
	}
	switch {
	case restored: // etcd has one member now
		return nil
	case stored: // etcd's own data may be gone
		return o.checkOthersOff(ctx, env)
	default:
		return o.checkQuorum(ctx, env)
	}
}

// inspectHost reads what is installed, and refuses a host that is not the one on which it was installed.
func (o *operation) inspectHost(ctx context.Context, env *action.Env) error {
	var ok bool
	if o.installed, ok = desired.ReadInstalledBundle(ctx, env.Host, env.DataDir); !ok {
		return problem.Newf(problem.ExitUsage, doing, "check the folder "+desired.BundleCacheDir(env.DataDir),
			"the documents of the installed bundle cannot be read")
	}
	recorded := desired.RecordedIdentity(env.Journal(), o.receipt)
	o.address = recorded.Address
	return preflight.CheckIdentity(doing, preflight.GatherBasic(ctx, env), recorded)
}

// inspectBackup verifies the backup completely, and refuses one that does not fit this host.
func (o *operation) inspectBackup(ctx context.Context, env *action.Env) (err error) {
	if o.file, err = backup.OpenFile(ctx, env, o.opts.ControlPlane, o.opts.Store); err != nil {
		return err
	}
	doing := "restore from the backup " + o.opts.ControlPlane
	if o.header, _, err = format.VerifyBytes(o.file); err != nil {
		return backup.Refusal(ctx, doing, err)
	}
	if err := o.checkHeader(env, doing); err != nil { // without a key
		return err
	}
	if o.key, err = o.opts.Key.RequireKey(ctx, o.header); err != nil {
		return err
	}
	m, err := format.Verify(o.file, o.key)
	if err != nil {
		return backup.Refusal(ctx, doing, err)
	}
	o.noteClock(env)
	data, _ := m.FindFile(format.EtcdName) // every manifest has it
	o.source, o.bytes = data.Digest.String(), data.Size
	for _, n := range m.Nodes {
		if n.Role == token.Controller && n.Name != o.receipt.Node {
			o.others = append(o.others, n)
		}
	}
	return nil
}

// clockTolerance is by how much the clocks of two hosts may differ.
const clockTolerance = 5 * time.Minute

// noteClock warns of a backup that was taken in the future of this host's clock. Which of the two clocks is wrong is not known.
func (o *operation) noteClock(env *action.Env) {
	if o.header.TakenAt.After(o.now.Add(clockTolerance)) {
		env.Note(fmt.Sprintf("warning: the backup is of %s, and the clock of this host shows %s: one of the two clocks is wrong; "+
			"check this one with timedatectl before the restore", o.header.TakenAt.Format(time.RFC3339), o.now.Format(time.RFC3339)))
	}
}

// checkHeader refuses a backup of another cluster, of another version, and one that is older than what is
// installed.
func (o *operation) checkHeader(env *action.Env, doing string) error {
	id, err := backup.ClusterID(env.Host)
	if err != nil {
		return problem.New(problem.ExitUsage, doing, err, "the cluster of this host cannot be identified; nothing was changed")
	}
	h, refuse := o.header, func(hint, format string, args ...any) error {
		return problem.Newf(problem.ExitUsage, doing, hint+"; nothing was changed", format, args...)
	}
	switch minor := backup.KubernetesMinor(o.receipt.Versions["k0s"]); {
	case h.ClusterID != id:
		return refuse("use a backup of this cluster, or another host", "it is of another cluster: %s, and not %s of this host", h.Cluster, o.receipt.Name)
	case h.Kubernetes != minor:
		return refuse("use a backup that was written after the last upgrade", "it is of Kubernetes %s, and this host has %s", h.Kubernetes, minor)
	case h.Release < o.receipt.Vendor.Release:
		return refuse("use a backup that was written after the last upgrade", "it is of release %d, and this host has release %d", h.Release,
			o.receipt.Vendor.Release)
	case h.TakenAt.Before(o.receipt.UpdatedAt.Truncate(time.Second)): // a header has whole seconds
		return refuse("use a newer backup: plinth backup list FOLDER; or the data of this host: plinth restore --from-this-node",
			"it is of %s, older than the receipt of this host, of %s",
			h.TakenAt.Format(time.RFC3339), o.receipt.UpdatedAt.Format(time.RFC3339))
	}
	return nil
}

// checkRuns refuses a restore while another run is unfinished, and finds out what an unfinished restore has done.
func (o *operation) checkRuns(env *action.Env) error {
	j := env.Journal()
	last, ok := j.LastUnfinished()
	if !ok {
		return nil
	}
	what := last.DescribeUnfinished()
	switch {
	case last.Verb != Verb:
		return problem.Newf(problem.ExitUsage, doing, "finish it first: run the same `plinth "+last.Command()+"` again; nothing was changed", "%s", what)
	case last.Args.From != o.source && o.hasStored(env, last.Args.From):
		return problem.Newf(problem.ExitUsage, doing, "finish it first: run the same `plinth restore` again; nothing was changed",
			"%s, and restores other data", what)
	}
	for _, run := range j.Runs() {
		switch {
		case run.Verb != Verb, !run.Unfinished():
			o.ended = false
		case run.HasBegun(plan.RestoreEndID):
			o.ended = true
		}
	}
	return nil
}

// hasStored reports whether an unfinished restore from source has put its data on this host, so that another must not
// begin.
func (o *operation) hasStored(env *action.Env, source string) bool {
	stored, _, err := plan.RestoreProgress(env.Host, env.DataDir, source)
	return stored || err != nil
}

// checkQuorum refuses a restore while the cluster works, or while another controller runs: two clusters with
// the same keys would diverge, and workers would use both.
func (o *operation) checkQuorum(ctx context.Context, env *action.Env) error {
	members, err := o.members(ctx, env)
	switch {
	case err == nil:
		if err := o.checkMembers(members); err != nil {
			return err
		}
	case o.opts.FromThisNode:
		return problem.New(problem.ExitUsage, doing, fmt.Errorf("the members of etcd cannot be read, so it is not known which controllers must be off: %w", err),
			"run it again in a minute; or restore from a backup: plinth restore --control-plane FILE; nothing was changed")
	}
	return o.checkOthersOff(ctx, env)
}

// checkOthersOff refuses a restore while another controller runs, or may run.
func (o *operation) checkOthersOff(ctx context.Context, env *action.Env) error {
	ca, _ := env.Host.ReadFile(etcd.CAPath) // without it, every etcd counts as one of the cluster
	for _, n := range o.others {
		if n.Address == "" {
			continue
		}
		refusal, note := peerVerdict(n, o.identify(ctx, n.Address, ca))
		if refusal != "" {
			return problem.Newf(problem.ExitUsage, doing, "start k0s on enough controllers, and the cluster works again without a restore; or stop it for good on all others: sudo systemctl disable --now "+k0s.ControllerUnit+"; nothing was changed",
				"%s", refusal)
		}
		if note != "" {
			env.Note(note)
		}
	}
	return nil
}

// checkMembers refuses a restore of an etcd that has a leader, and sets the other controllers.
func (o *operation) checkMembers(members []etcd.Member) error {
	o.others = nil
	led, learner := false, false
	for _, m := range members {
		led = led || m.Leader
		if strings.ToLower(m.Name) == o.receipt.Node { // k0s names a member as its host, with capitals
			learner = m.Learner
			continue
		}
		o.others = append(o.others, format.Node{Name: cmp.Or(m.Name, m.Address), Role: token.Controller, Address: m.Address})
	}
	switch {
	case led && len(members) > 1:
		return problem.New(problem.ExitUsage, doing, errors.New("the cluster has its quorum: etcd has a leader"),
			"see which controllers are lost: plinth node list; remove them: plinth node remove NAME --force; nothing was changed")
	case led && o.opts.FromThisNode:
		return problem.New(problem.ExitUsage, doing, errors.New("nothing is lost: this host is the only controller, and etcd answers"),
			"check the cluster: plinth status; nothing was changed")
	case learner && o.opts.FromThisNode:
		return problem.New(problem.ExitUsage, doing, errors.New("this host was still joining: its etcd may not have all data"),
			"use another controller that survived, or a backup: plinth restore --control-plane FILE; nothing was changed")
	}
	return nil
}

// lost returns the names of the other controllers, as their nodes have them: those of members of etcd may have capitals.
func (o *operation) lost() (names []string) {
	for _, n := range o.others {
		names = append(names, strings.ToLower(n.Name))
	}
	return names
}

// steps returns the steps of the restore on env's host.
func (o *operation) steps(_ context.Context, env *action.Env) ([]step.Step, error) {
	r := plan.Restoration{Source: o.source, TakenAt: o.now, RemoveLost: o.opts.RemoveLost, Nodes: o.lost(), NotReady: func(why string) { o.notReady = why }}
	if !o.opts.FromThisNode {
		r.TakenAt, r.Open, r.Bytes = o.header.TakenAt, o.openEtcd, o.bytes
	} else if info, err := env.Host.Lstat(k0s.EtcdDatabase); err == nil {
		r.Bytes = info.Size()
	}
	if o.ended {
		return plan.EndRestore(plan.Cluster{Host: env.Host, DataDir: env.DataDir}), nil
	}
	if o.simulate != nil {
		return o.simulate(env, r)
	}
	parts, err := addons.Resolve(o.installed.Installer, env.DataDir)
	if err != nil {
		return nil, err
	}
	podCIDR := netip.MustParsePrefix(o.installed.Installer.Spec.Network.PodCIDR) // lint has parsed it
	target := desired.Target{Host: env.Host, Journal: env.Journal(), Now: env.Now, DataDir: env.DataDir, Node: o.receipt.Node, Address: o.address,
		API: o.receipt.API, AddOns: parts, Cleanup: env.CleanupScope(podCIDR)}
	return desired.RestoreSteps(target, o.installed, r), nil
}

// openEtcd opens the snapshot of etcd in the backup.
func (o *operation) openEtcd(context.Context) (io.ReadCloser, error) {
	return openEtcd(o.file, o.key), nil
}

// confirm asks before the first change; it names the step at which an unfinished restore stopped.
func (o *operation) confirm(ctx context.Context, env *action.Env, todo []step.Planned) error {
	if last, ok := env.Journal().LastUnfinished(); ok {
		env.Note(fmt.Sprintf("resuming the restore started at %s, which stopped at %s", last.StartedAt.Format(time.RFC3339), last.ReachedStep()))
	}
	question := "This host becomes the only controller of " + o.receipt.Name + ". "
	if o.opts.FromThisNode {
		question += "Its own data of etcd is used: what the other controllers had and this one had not received is lost.\n"
	} else {
		question += fmt.Sprintf("What was written to the cluster since %s is lost.\n", o.header.TakenAt.Format(time.RFC3339))
	}
	question += "Pods keep running. The other controllers must be off for good: if they start again with their data, there are two clusters.\n"
	if lost := o.lost(); len(lost) > 0 {
		question += "Other controllers: " + strings.Join(lost, ", ") + ".\n"
	}
	if o.opts.RemoveLost {
		question += "They are removed from the cluster, with the volumes that only they have.\n"
	}
	return env.Confirm(ctx, question+fmt.Sprintf("Restore the control plane (%d of %d steps to do)?", plan.CountNeeded(todo), len(todo)))
}

// journalArgs returns the arguments of this run.
func (o *operation) journalArgs(_ *action.Env, count int) *journal.Args {
	args := journal.Args{Cluster: o.receipt.Name, Bundle: o.receipt.Bundle, From: o.source, Node: o.receipt.Node, MachineID: o.receipt.MachineID,
		Address: o.receipt.Address, APIAddress: o.receipt.API, Steps: count}
	if o.installed.Installer != nil {
		args.PodCIDR = o.installed.Installer.Spec.Network.PodCIDR
	}
	return &args
}
