package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/action/install"
	"github.com/plinthdev/plinth/internal/action/source"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/velero"
)

// NewHost are the results of a restore on a host that had no cluster. Its JSON format is public.
type NewHost struct {
	ConsoleURL string                `json:"consoleURL,omitempty"`
	Kubeconfig string                `json:"kubeconfig"`
	Preflights *hostpreflight.Report `json:"preflights,omitempty"`
	Absent     []string              `json:"absent,omitempty"`   // nodes that are not Ready: to join again, or to remove
	Warnings   []string              `json:"warnings,omitempty"` // such as the volumes that are lost
}

// isOnNewHost reports whether the control plane is to be restored on a host without a cluster: there is none, and a bundle
// to install. A bundle for a host with a cluster is an error, and so is a flag that only has an effect on a new host.
func (opts Options) isOnNewHost(env *action.Env) (bool, error) {
	_, installed, err := journal.ReadReceipt(env.Host, env.DataDir)
	given, unused := opts.Install.Bundle != "" || opts.Install.Source.Source != "", opts.newHostFlags()
	switch {
	case err != nil:
		return false, err
	case (opts.FromThisNode || installed) && !given && len(unused) > 0:
		return false, problem.Newf(problem.ExitUsage, doing, "omit what has no effect; nothing was changed",
			"the host keeps its address and its configuration, and no host preflight runs: %s would have no effect", strings.Join(unused, ", "))
	case opts.FromThisNode && !given:
		return false, nil
	case opts.FromThisNode:
		return false, problem.New(problem.ExitUsage, doing, errors.New("--from-this-node needs no bundle"), "omit --bundle and --source; for a host without a cluster, use a backup: --control-plane FILE")
	case installed && given:
		return false, problem.New(problem.ExitUsage, doing, errors.New("this host has a cluster, and a bundle is given"),
			"omit --bundle and --source to restore the cluster of this host; or use a host without a cluster; nothing was changed")
	case installed || given:
		return given, nil
	}
	err = requireBundle(opts, doing, "to replace controllers that are all lost by this host, name the bundle of the cluster with --bundle FILE; otherwise run it on a controller that survived")
	return err == nil, err
}

// newHostFlags returns the names of the flags that are given and that only have an effect on a host without a cluster.
func (opts Options) newHostFlags() (names []string) {
	in := opts.Install
	for _, f := range []struct {
		given bool
		name  string
	}{
		{in.NodeAddress.Address != "", "--address"}, {in.NodeAddress.Interface != "", "--network-interface"}, {in.APIAddress != "", "--api-address"}, {in.ConfigureFirewall != "", "--configure-firewall"},
		{len(in.Addresses) > 0, "--load-balancer-addresses"},
		{len(in.IgnorePreflights) > 0, "--ignore-host-preflight"}, {in.Source.Base != "", "--base"}, {in.Source.VerifyKey != "", "--verify-key"},
		{in.Source.KeyRotation != "", "--key-rotation"}, {in.Source.AllowUnsigned, "--allow-unsigned"},
	} {
		if f.given {
			names = append(names, f.name)
		}
	}
	return names
}

// requireBundle returns a usage problem unless a bundle is given, or embedded in this executable.
func requireBundle(opts Options, doing, hint string) error {
	if opts.Install.Bundle != "" || opts.Install.Source.Source != "" {
		return nil
	}
	self, closer, err := source.OpenSelf()
	if err != nil {
		return err
	}
	if err := closer.Close(); err != nil || self.Bundle != nil {
		return err
	}
	return problem.New(problem.ExitUsage, doing, errors.New("this host has no finished install, and no bundle is given"), hint)
}

// newHost is a restore on a host that had no cluster.
type newHost struct {
	opts     Options
	identify identifyFunc
	file     format.Source
	key      format.Key
	header   format.Header
	manifest format.Manifest
	content  map[string][]byte // files of the backup that the restore needs, by path on the lost controller; secret
	receipt  journal.Receipt   // of the controller that wrote the backup
	dataDir  string            // of Plinth on that controller

	hasSnapshots bool // the folder of the object store is on this host, with snapshots
}

// runOnNewHost makes this host the only controller of the cluster in a backup.
func runOnNewHost(ctx context.Context, env *action.Env, opts Options) (Result, error) {
	n := newHost{opts: opts, identify: etcd.IdentifyPeer}
	if err := n.readBackup(ctx, env); err != nil {
		return Result{}, err
	}
	notReady := ""
	data, _ := n.manifest.FindFile(format.EtcdName) // every manifest has it
	restoration := plan.Restoration{Source: data.Digest.String(), TakenAt: n.header.TakenAt, Bytes: data.Size, Keys: n.content, Nodes: n.nodes(""), NotReady: func(why string) { notReady = why },
		Open: func(context.Context) (io.ReadCloser, error) { return openEtcd(n.file, n.key), nil }}
	done, err := install.RestoreOnNewHost(ctx, env, opts.Install, install.Restoration{From: restoration.Source, Receipt: n.receipt, TakenAt: n.header.TakenAt, Check: n.check, Question: n.question,
		Paths: []hostpreflight.WritePath{
			{Path: plan.RestoreDir(env.DataDir), Purpose: "the data to restore, twice", Bytes: uint64(2 * data.Size)},
			{Path: k0s.EtcdDir, Purpose: "the data of etcd", Bytes: uint64(data.Size)},
		},
		Steps: func(c plan.Cluster) []step.Step { return plan.RestoreOnNewHost(c, restoration) }})
	res := Result{Changed: done.Changed, Plan: done.Plan, Log: done.Log, Lost: n.nodes(token.Controller), TakenAt: &n.header.TakenAt, Removed: true, NotReady: notReady,
		NewHost: &NewHost{ConsoleURL: done.ConsoleURL, Kubeconfig: done.Kubeconfig, Preflights: done.Preflights, Warnings: done.Warnings}}
	if err == nil && !opts.Install.Plan {
		if res.NewHost.Absent, err = absentNodes(ctx, env); err != nil {
			env.Note("warning: the restore is done, but its nodes cannot be listed: " + err.Error())
		}
		return res, nil
	}
	return res, err
}

// maxKeyFile limits the files of a backup that are read into memory, in bytes: they are PEM, or a receipt.
const maxKeyFile = 1 << 20

// readBackup verifies the backup completely, and reads the files in it that the restore needs.
func (n *newHost) readBackup(ctx context.Context, env *action.Env) (err error) {
	if n.file, err = backup.OpenFile(ctx, env, n.opts.ControlPlane, n.opts.Store); err != nil {
		return err
	}
	doing := n.doing()
	if n.header, _, err = format.VerifyBytes(n.file); err != nil {
		return backup.Refusal(ctx, doing, err)
	}
	if err := n.checkNewest(ctx, env); err != nil { // without a key
		return err
	}
	if n.key, err = n.opts.Key.RequireKey(ctx, n.header); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, f := range k0s.SharedFiles() {
		wanted[f.Path] = true
	}
	n.content = map[string][]byte{}
	n.manifest, err = format.Extract(n.file, n.key, func(_ format.Manifest, f format.File, content io.Reader) error {
		p, ok := f.HostPath()
		if isReceipt := path.Base(p) == journal.ReceiptFile; !ok || !wanted[p] && !isReceipt {
			return nil
		} else if isReceipt {
			n.dataDir = path.Dir(p)
		}
		raw, err := io.ReadAll(io.LimitReader(content, maxKeyFile))
		n.content[p] = raw
		return err
	})
	if err != nil {
		return backup.Refusal(ctx, doing, err)
	}
	for p := range wanted {
		if len(n.content[p]) == 0 {
			return problem.Newf(problem.ExitBundle, doing, "use another backup", "it lacks the file %s of the controller", p)
		}
	}
	if n.receipt, err = journal.ParseReceipt(n.content[path.Join(n.dataDir, journal.ReceiptFile)]); err != nil {
		return problem.New(problem.ExitBundle, doing, fmt.Errorf("the receipt in it cannot be read: %w", err), "use another backup")
	}
	return nil
}

// doing returns what fails, for messages.
func (n *newHost) doing() string { return "restore from the backup " + n.opts.ControlPlane }

// refuse returns the problem of a backup that does not fit. Nothing was changed.
func (n *newHost) refuse(hint, text string, args ...any) error {
	return problem.Newf(problem.ExitUsage, n.doing(), hint+"; nothing was changed", text, args...)
}

// checkNewest refuses a backup that is older than a receipt of its cluster, of which a newer backup beside it tells: the
// cluster was upgraded, or a node has joined, since.
func (n *newHost) checkNewest(ctx context.Context, env *action.Env) error {
	newer, ok := backup.NewestBeside(ctx, env, n.opts.ControlPlane, n.opts.Store, n.header)
	switch {
	case !ok:
		return nil
	case newer.ReceiptAt.After(n.header.TakenAt):
		return n.refuse("use "+newer.Path+", or copy this one to a folder of its own to go back on purpose",
			"it is of %s, older than the receipt of the cluster, of %s, which a newer backup beside it has", n.header.TakenAt.Format(time.RFC3339), newer.ReceiptAt.Format(time.RFC3339))
	}
	env.Note(fmt.Sprintf("warning: a newer backup of this cluster is beside it, of %s: %s", newer.TakenAt.Format(time.RFC3339), newer.Path))
	return nil
}

// check refuses a bundle other than that of the cluster, and a host that cannot be a controller of it.
func (n *newHost) check(ctx context.Context, env *action.Env, c install.Candidate) error {
	if err := n.checkBundle(c); err != nil {
		return err
	}
	if n.dataDir != env.DataDir {
		return n.refuse("add --data-dir "+n.dataDir, "the data folder of the cluster is %s, and that of this command %s", n.dataDir, env.DataDir)
	}
	if err := n.checkWorkers(c); err != nil {
		return err
	}
	if v := c.Config.Installer.Spec.Velero; v != nil && v.ObjectStore.Folder != "" {
		entries, err := env.Host.ReadDir(path.Join(velero.BucketDir(v.ObjectStore.Folder), "backups"))
		n.hasSnapshots = err == nil && len(entries) > 0
	}
	if _, restored, err := plan.RestoreProgress(env.Host, env.DataDir, n.etcdDigest()); err != nil || restored {
		return err // a resumed run
	}
	for _, other := range n.manifest.Nodes {
		if other.Role != token.Controller || hasAddress(c.Host.Network, other.Address) {
			continue
		}
		refusal, note := peerVerdict(other, n.identify(ctx, other.Address, n.content[etcd.CAPath]))
		if refusal != "" {
			return n.refuse("if it is not lost, restore it there: sudo plinth restore --control-plane FILE; or stop it for good on every old controller: sudo systemctl disable --now "+k0s.ControllerUnit, "%s", refusal)
		}
		if note != "" {
			env.Note(note)
		}
	}
	return nil
}

// etcdDigest returns the digest of the snapshot of etcd.
func (n *newHost) etcdDigest() string {
	data, _ := n.manifest.FindFile(format.EtcdName)
	return data.Digest.String()
}

// checkBundle refuses a bundle other than the installed one, by the first thing in which it differs. An upgrade is another
// change, with its own checks and its own way back; and nodes with another bundle could not join again.
func (n *newHost) checkBundle(c install.Candidate) error {
	have, in := c.Bundle.String(), c.Config.Installer
	if have == n.header.Bundle {
		return nil
	}
	const hint = "give the bundle with which the cluster was installed, or to which it was last upgraded; upgrade it after the restore"
	var was trust.PublicKey
	if err := was.UnmarshalText([]byte(n.receipt.Vendor.Key)); err != nil {
		return problem.New(problem.ExitBundle, n.doing(), fmt.Errorf("the vendor's key in its receipt: %w", err), "use another backup")
	}
	version, minor := in.Spec.K0s.Version, backup.KubernetesMinor(in.Spec.K0s.Version)
	order, _ := spec.CompareK0s(version, n.header.K0s)
	switch {
	case in.Metadata.Name != n.header.Cluster:
		return n.refuse(hint, "it is of the cluster %s, and the bundle is of %s", n.header.Cluster, in.Metadata.Name)
	case !was.IsZero() && !c.Config.Trust.Key.IsZero() && c.Config.Trust.Key.Fingerprint() != was.Fingerprint():
		return problem.Newf(problem.ExitBundle, n.doing(), hint+"; nothing was changed", "the vendor of its cluster has the key %s, and the bundle is signed with %s",
			was.Fingerprint(), c.Config.Trust.Key.Fingerprint())
	case minor != n.header.Kubernetes:
		return n.refuse(hint, "it is of Kubernetes %s, and the bundle has %s", n.header.Kubernetes, minor)
	case order < 0:
		return n.refuse(hint, "it is of k0s %s, and the bundle has the older %s", n.header.K0s, version)
	}
	return n.refuse(hint, "it is of release %d, bundle %s, and the given one is release %d, %s", n.header.Release, n.header.Bundle, c.Release, have)
}

// checkWorkers refuses a host that has the name or an address of a worker in the backup, which may still run.
func (n *newHost) checkWorkers(c install.Candidate) error {
	for _, w := range n.manifest.Nodes {
		switch {
		case w.Role == token.Controller:
		case w.Name == c.Node:
			return n.refuse("give this host another name: sudo hostnamectl set-hostname NAME; workers join again with their old data", "its cluster has a worker with the name of this host, %s", w.Name)
		case hasAddress(c.Host.Network, w.Address):
			return n.refuse("remove the address from this host (ip -brief address shows it)", "an interface of this host has the address %s of worker %s, which it could not reach", w.Address, w.Name)
		}
	}
	return nil
}

// hasAddress reports whether an interface of a host that is up has an address.
func hasAddress(n facts.Network, text string) bool {
	at, err := netip.ParseAddr(text)
	return err == nil && n.HasLiveAddress(at.Unmap())
}

// nodes returns the names of the nodes in the backup with a role, "" for any.
func (n *newHost) nodes(role string) (names []string) {
	for _, x := range n.manifest.Nodes {
		if role == "" || x.Role == role {
			names = append(names, x.Name)
		}
	}
	return names
}

// question returns what the user has to know before the first change.
func (n *newHost) question(c install.Candidate) string {
	var b strings.Builder
	fmt.Fprintf(&b, "This host becomes the only controller of %s, as node %s with the address %s.\n", n.header.Cluster, c.Node, c.Host.Network.NodeAddress)
	fmt.Fprintf(&b, "What was written to the cluster since %s is lost.\n", n.header.TakenAt.Format(time.RFC3339))
	fmt.Fprintf(&b, "Lost controllers: %s. They are removed from the cluster, with the volumes that only they had: among them is the database of the admin console.\n",
		strings.Join(n.nodes(token.Controller), ", "))
	b.WriteString("They must be off for good: if they start again with their data, there are two clusters.\n")
	b.WriteString(n.storeText(c))
	if workers := n.nodes(token.Worker); len(workers) > 0 {
		fmt.Fprintf(&b, "Pods keep running on %s. ", strings.Join(workers, ", "))
		if slices.ContainsFunc(n.manifest.Nodes, func(x format.Node) bool {
			return x.Role == token.Controller && x.Address == c.Host.Network.NodeAddress.String()
		}) || n.receipt.API != "" {
			b.WriteString("They find this host by themselves.\n")
		} else {
			b.WriteString("They do not know the address of this host: they have to join again.\n")
		}
	}
	return b.String()
}

// storeText returns what becomes of the snapshots in a folder of the object store, as a line; "" without such a store.
func (n *newHost) storeText(c install.Candidate) string {
	v := c.Config.Installer.Spec.Velero
	if v == nil || v.ObjectStore.Mode == spec.ObjectStoreNone || v.ObjectStore.Folder == "" {
		return ""
	}
	if n.hasSnapshots {
		return "The snapshots in " + v.ObjectStore.Folder + " of this host are used.\n"
	}
	return "There are no snapshots in " + v.ObjectStore.Folder + " of this host: if a share or a disk has them, mount it there, or copy them, before the restore.\n"
}

// openEtcd opens the snapshot of etcd in a backup. The end of the reader comes after the whole file was verified.
func openEtcd(file format.Source, key format.Key) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, err := format.Extract(file, key, func(_ format.Manifest, f format.File, content io.Reader) error {
			if f.Name != format.EtcdName {
				return nil
			}
			_, err := io.Copy(w, content)
			return err
		})
		w.CloseWithError(err) // nil is the end
	}()
	return r
}

// absentNodes returns the nodes of the restored cluster that are not Ready, sorted.
func absentNodes(ctx context.Context, env *action.Env) (absent []string, err error) {
	client, err := env.KubeClient()
	if err != nil {
		return nil, err
	}
	nodes, err := client.Nodes(ctx)
	for _, x := range nodes {
		if !x.Ready {
			absent = append(absent, x.Name)
		}
	}
	return absent, err
}
