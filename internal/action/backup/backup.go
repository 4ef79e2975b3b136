// Package backup writes control-plane backups of the cluster on this host, lists and verifies them.
package backup

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/ui"
	"github.com/plinthdev/plinth/internal/velero"
)

// Options are the options of a backup.
type Options struct {
	To   string // file to write, or folder in which the file gets a name, or s3://BUCKET/PREFIX
	Lock KeyFlags
	Keep int // backups of this cluster to keep in the folder; 0 for all
	// PerNode writes to a folder with the name of this node in the folder To, and creates it.
	PerNode   bool
	Scheduled bool                 // the schedule has started it, not a user
	Store     objectstore.Settings // how to reach the object store
}

// Result is the result of a backup. Its JSON format is public.
type Result struct {
	Path     string        `json:"path"`
	Size     int64         `json:"size"`   // bytes
	Digest   digest.Digest `json:"digest"` // of the file
	Backup   format.Header `json:"backup"`
	Verified Verified      `json:"verified"`
	Removed  []string      `json:"removed,omitempty"` // older backups, because of --keep
	Log      string        `json:"log,omitempty"`
}

// Verified is how far a backup is verified.
type Verified string

// The ways to verify a backup.
const (
	Content Verified = "content" // it was decrypted, and every file in it has its digest
	Bytes   Verified = "bytes"   // the file is as it was written; without a private key it cannot be decrypted here
)

const doing = "back up the control plane"

// Run writes a backup of the control plane to a file, reads it back, and removes older backups. Nothing in
// the cluster is changed.
func Run(ctx context.Context, env *action.Env, opts Options) (Result, error) {
	if err := env.RequireHost("backup"); err != nil {
		return Result{}, err
	}
	lock, err := opts.Lock.lock(ctx)
	if err != nil {
		return Result{}, err
	}
	o := &operation{opts: opts, lock: lock, data: cluster{env}}
	out, err := action.Execute(ctx, env, o.engineOperation())
	o.result.Log = out.Log
	if err != nil {
		return Result{}, o.recordFailure(env, err)
	}
	return o.result, nil
}

// operation is one backup.
type operation struct {
	opts Options
	lock format.Lock
	data data

	begun    bool // the record says that it has begun
	receipt  journal.Receipt
	manifest format.Manifest
	dir      string // folder or prefix of the backup
	file     string // path of the backup in it
	result   Result
}

// data reads the state of the cluster.
type data interface {
	// EtcdSnapshot returns a snapshot of etcd.
	EtcdSnapshot(ctx context.Context) (io.ReadCloser, error)
	// Nodes returns the nodes of the cluster. An error means that the cluster does not answer.
	Nodes(ctx context.Context) ([]format.Node, error)
	// Networks returns the networks of the installed cluster.
	Networks(ctx context.Context) (format.Networks, error)
	// SkippedClaims returns the claims whose data snapshots leave out.
	SkippedClaims(ctx context.Context) ([]kube.PVC, error)
}

// engineOperation returns the backup as action.Execute runs it.
func (o *operation) engineOperation() action.Operation {
	return action.Operation{
		Verb:      Verb,
		Resolve:   o.begin,   // remove what a killed backup has left, record that this one has begun
		Inspect:   o.inspect, // refuse what cannot be backed up
		Steps:     o.steps,   // snapshot of etcd, file, verification, retention
		Unplanned: true,      // every step is needed
		Apply:     o.apply,   // run the steps; leave no copy of the data behind
		Record:    o.recordSuccess,
	}
}

// Verb is the name of the run.
const Verb = "backup"

// begin removes what a killed backup has left, and records that this one has begun.
func (o *operation) begin(ctx context.Context, env *action.Env) error {
	if err := removeCopy(ctx, env); err != nil {
		return err
	}
	return o.recordStart(env)
}

// inspect refuses a host without a running control plane, and a target that cannot be written.
func (o *operation) inspect(ctx context.Context, env *action.Env) (err error) {
	if o.receipt, err = env.RequireInstalled(doing); err != nil {
		return err
	}
	if err := action.RefuseWorker(doing, o.receipt); err != nil {
		return err
	}
	if last, ok := env.Journal().LastUnfinished(); ok {
		return problem.New(problem.ExitUsage, doing, errors.New(last.DescribeUnfinished()), "run the same `plinth "+last.Command()+"` again first")
	}
	if why, err := (k0s.Service{Host: env.Host}).DownReason(ctx); err != nil || why != "" {
		if err == nil {
			err = errors.New("k0s is not running: " + why)
		}
		return problem.New(problem.ExitUsage, doing, err, "start it: sudo systemctl start "+k0s.ControllerUnit)
	}
	o.manifest = format.Manifest{Header: newHeader(o.receipt, env.Now())}
	if err := o.checkClock(); err != nil {
		return err
	}
	if o.manifest.ClusterID, err = ClusterID(env.Host); err != nil {
		return problem.New(problem.ExitUsage, doing, fmt.Errorf("the cluster of this host cannot be identified: %w", err), "check the cluster: plinth status")
	}
	if o.manifest.Networks, err = o.data.Networks(ctx); err != nil {
		return problem.New(problem.ExitUsage, doing, err, "`plinth install` with the installed bundle writes it again")
	}
	if o.manifest.Nodes, err = o.data.Nodes(ctx); err != nil {
		return problem.New(problem.ExitUsage, doing, errors.New("the cluster does not answer: "+problem.ExplainConnection(err)),
			"check the cluster: plinth status; a backup needs an API server that answers")
	}
	o.warnSkipped(ctx, env)
	return o.chooseFile(ctx, env)
}

// warnSkipped warns of data that neither this backup nor a snapshot has, in a cluster with Velero. The status shows a query
// that fails.
func (o *operation) warnSkipped(ctx context.Context, env *action.Env) {
	if !slices.ContainsFunc(o.receipt.AddOns, func(a journal.AddOn) bool { return a.Name == "velero" }) {
		return
	}
	claims, err := o.data.SkippedClaims(ctx)
	if warning := velero.SkippedWarning(claims); err == nil && warning != "" {
		env.Note("warning: " + warning)
	}
}

// checkClock refuses a clock that is before the last change of the receipt: a restore would refuse the backup, because it
// seems to be older than what is installed.
func (o *operation) checkClock() error {
	taken, changed := o.manifest.TakenAt, o.manifest.ReceiptAt
	if !taken.Before(changed) {
		return nil
	}
	return problem.Newf(problem.ExitUsage, doing,
		"set the clock: sudo timedatectl set-ntp true; if it was wrong when this cluster was last changed, wait until that time",
		"the clock of this host shows %s, before the last change of its receipt, of %s: a restore would refuse the backup as too old",
		taken.Format(time.RFC3339), changed.Format(time.RFC3339))
}

// chooseFile sets the path of the backup.
func (o *operation) chooseFile(ctx context.Context, env *action.Env) error {
	doing := "write the backup to " + ui.CleanLine(o.opts.To)
	refuse := func(hint, text string, args ...any) error {
		return problem.Newf(problem.ExitUsage, doing, hint, text, args...)
	}
	to, err := filepath.Abs(o.opts.To)
	switch {
	case o.opts.To == "":
		return problem.Newf(problem.ExitUsage, "back up the control plane", "add --to FILE, or --to FOLDER", "the flag --to is missing")
	case objectstore.IsURL(o.opts.To):
		return o.chooseObject(ctx, env, doing)
	case strings.Contains(o.opts.To, "://"):
		return refuse("give a file, a folder, which may be a mounted share, or s3://BUCKET/PREFIX", "of URLs, only those of S3 are supported")
	case err != nil:
		return err
	case strings.ContainsFunc(to, unicode.IsControl):
		return refuse("give another name", "its name has control characters")
	}
	const elsewhere = "name a folder on another disk, or on a mounted share"
	if dir := lostFolder(env.DataDir, to); dir != "" {
		return refuse(elsewhere, "a reset or the next boot removes what is in %s", dir)
	}
	_, missing := env.Host.ReadDir(to)
	switch {
	case errors.Is(missing, fs.ErrPermission):
		return refuse(host.AccessHint(to), "the folder cannot be read: %w", problem.PathCause(missing))
	case missing == nil && o.opts.PerNode:
		o.dir = path.Join(to, o.receipt.Node)
		if dir := lostFolder(env.DataDir, o.dir); dir != "" {
			return refuse(elsewhere, "%s leads to %s, and a reset or the next boot removes what is in it", o.dir, dir)
		}
		o.file = path.Join(o.dir, fileName(o.manifest.Header))
		return nil
	case missing == nil:
		o.file = path.Join(to, fileName(o.manifest.Header))
	case strings.HasSuffix(o.opts.To, "/") || o.opts.PerNode:
		return refuse("create the folder first: sudo mkdir -p "+problem.QuoteWord(to), "there is no such folder")
	default:
		o.file = to
	}
	if o.opts.Keep > 0 && o.file == to {
		return refuse("name a folder, or omit --keep", "--keep needs a folder")
	}
	o.dir = path.Dir(o.file)
	if _, err := env.Host.ReadDir(o.dir); err != nil {
		hint := "create the folder first: sudo mkdir -p " + problem.QuoteWord(o.dir)
		if !errors.Is(err, fs.ErrNotExist) {
			hint = "name another one, or check it: ls -ld " + problem.QuoteWord(o.dir)
		}
		return refuse(hint, "its folder cannot be read: %w", problem.PathCause(err))
	}
	if _, err := env.Host.Lstat(o.file); !errors.Is(err, fs.ErrNotExist) {
		return refuse("name a new file, or a folder", "it exists already")
	}
	return nil
}

// lostFolder returns the folder that p is in, as it is or by symbolic links, and in which a backup would be lost; "" for none.
func lostFolder(dataDir, p string) string {
	for _, dir := range append(spec.LostFolders(), dataDir) {
		for _, at := range []string{p, host.ResolveExisting(p)} {
			if cleanup.IsWithin(at, dir) || cleanup.IsWithin(at, host.ResolveExisting(dir)) {
				return dir
			}
		}
	}
	return ""
}

// chooseObject sets the path of a backup in an object store, which has to answer.
func (o *operation) chooseObject(ctx context.Context, env *action.Env, doing string) error {
	l, err := objectstore.ParseURL(o.opts.To)
	if err != nil {
		return problem.New(problem.ExitUsage, doing, err, "give s3://BUCKET/PREFIX")
	}
	if o.opts.PerNode {
		l = l.Join(o.receipt.Node)
	}
	o.dir, o.file = l.String(), l.Join(fileName(o.manifest.Header)).String()
	p, err := placeOf(env, o.dir, o.opts.Store)
	var all []Entry
	if err == nil {
		all, err = p.List(ctx, o.dir, false)
	}
	if err != nil {
		return orInterrupt(ctx, problem.New(problem.ExitUsage, doing, err, problem.Hint(err)))
	}
	if slices.ContainsFunc(all, func(e Entry) bool { return e.Path == o.file }) {
		return problem.Newf(problem.ExitUsage, doing, "wait a second, and run the command again", "%s exists already", o.file)
	}
	return nil
}

// fileName returns the name of the backup in a folder: sorted by name, the backups of a cluster are sorted
// by time.
func fileName(h format.Header) string {
	return h.Cluster + "-" + h.TakenAt.Format("20060102T150405Z") + format.Suffix
}

// steps returns the steps of the backup on env's host.
func (o *operation) steps(_ context.Context, env *action.Env) ([]step.Step, error) {
	p, err := placeOf(env, o.file, o.opts.Store)
	if err != nil {
		return nil, err
	}
	w := writer{operation: o, env: env, place: p}
	b := plan.Backup{Spool: spoolDir(env.DataDir), File: o.file, SaveEtcd: w.saveEtcd, WriteFile: w.writeFile, Verify: w.verify}
	if o.opts.Keep > 0 {
		b.RemoveOlder = w.removeOlder
	}
	return plan.WriteBackup(b), nil
}

// apply runs the steps, and removes the copy of the data that they need.
func (o *operation) apply(ctx context.Context, env *action.Env, runner step.Runner, steps []step.Step) error {
	_, err := runner.Run(ctx, steps)
	return errors.Join(err, removeCopy(ctx, env))
}

// removeCopy removes the copy of the data of etcd, which has all Secrets of the cluster.
func removeCopy(_ context.Context, env *action.Env) error {
	return env.Host.RemoveAll(spoolDir(env.DataDir))
}

// spoolDir returns the private folder for the snapshot of etcd while a backup is written.
func spoolDir(dataDir string) string { return path.Join(dataDir, "backup") }

// newHeader returns the header of a backup of the host with this receipt.
func newHeader(r journal.Receipt, now time.Time) format.Header {
	return format.Header{Cluster: r.Name, Node: r.Node, TakenAt: now.UTC().Truncate(time.Second), Kubernetes: KubernetesMinor(r.Versions["k0s"]),
		K0s: r.Versions["k0s"], Bundle: r.Bundle, Release: r.Vendor.Release, ReceiptAt: r.UpdatedAt.UTC().Truncate(time.Second)}
}

// KubernetesMinor returns the minor version of Kubernetes in a version of k0s: "1.33".
func KubernetesMinor(k0sVersion string) string {
	return fmt.Sprintf("1.%d", spec.KubernetesMinor(k0sVersion))
}

// ClusterID returns what identifies the cluster of a host: the pin of the public key of its authority. The
// error is fs.ErrNotExist if the host has no cluster.
func ClusterID(h host.Files) (string, error) {
	raw, err := h.ReadFile(k0s.CACertPath)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return "", errors.New(k0s.CACertPath + " contains no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("%s: %w", k0s.CACertPath, err)
	}
	return token.PublicKeyPin(cert), nil
}

// cluster reads the state of the cluster on env's host.
type cluster struct{ env *action.Env }

// clusterTimeout is how long the cluster may take to list its nodes, or its volumes.
const clusterTimeout = 10 * time.Second

func (c cluster) EtcdSnapshot(ctx context.Context) (io.ReadCloser, error) {
	client, err := etcd.New(c.env.Host)
	if err != nil {
		return nil, err
	}
	return client.Snapshot(ctx)
}

func (c cluster) Nodes(ctx context.Context) (all []format.Node, err error) {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	client, err := c.env.KubeClient()
	if err != nil {
		return nil, err
	}
	records, err := client.NodeRecords(ctx)
	for _, r := range records.Sorted() {
		all = append(all, format.Node{Name: r.Node, Role: r.Role, Address: r.Address})
	}
	return all, err
}

func (c cluster) SkippedClaims(ctx context.Context) ([]kube.PVC, error) {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	client, err := c.env.KubeClient()
	if err != nil {
		return nil, err
	}
	return kube.HostPathPVCs(ctx, client)
}

func (c cluster) Networks(ctx context.Context) (format.Networks, error) {
	in := desired.ReadInstalledInstaller(ctx, c.env.Host, c.env.DataDir)
	if in == nil {
		return format.Networks{}, errors.New("the Installer in " + desired.BundleCacheDir(c.env.DataDir) + " cannot be read")
	}
	return format.Networks{PodCIDR: in.Spec.Network.PodCIDR, ServiceCIDR: in.Spec.Network.ServiceCIDR}, nil
}
