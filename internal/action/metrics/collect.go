// Package metrics reports the state of a node in Prometheus's text format.
package metrics

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/action/certificates"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/token"
)

// How old the answers may be. A scrape costs at most one read of the host's files, and reads of the cluster are rare: each
// one is a line in the audit log of the API.
const (
	hostMaxAge         = 10 * time.Second
	clusterMaxAge      = 5 * time.Minute
	certificatesMaxAge = time.Hour // of those in the cluster
)

// clusterTimeout is how long the cluster may take. Prometheus waits 10 s for a scrape by default.
const clusterTimeout = 3 * time.Second

// source is a kind of state that is read on its own, so that one that cannot be read does not hide the others.
type source string

const (
	sourceReceipt      source = "receipt"
	sourceJournal      source = "journal"
	sourceBackup       source = "backup"
	sourceCertificates source = "certificates"
	sourceImages       source = "images"
	sourceFilesystem   source = "filesystem"
	sourceCluster      source = "cluster"
)

// snapshot is the state of a node. What could not be read is zero.
type snapshot struct {
	now     time.Time
	version string
	read    map[source]bool // whether each source of this node could be read

	receipt      journal.Receipt
	removed      bool
	active       bool
	unfinished   bool
	lastVerb     string // "" if no command has changed the host
	lastStart    time.Time
	backup       backup.Record
	certificates []certificates.Certificate
	imageBytes   int64
	spaces       []space
	cluster      clusterState
}

// space is the size of the file system that holds a folder.
type space struct {
	path            string
	size, available uint64 // bytes
}

// clusterState is what a controller knows of its cluster.
type clusterState struct {
	nodes        kube.NodeRecords
	tokens       []token.Record
	upgrade      kube.UpgradeRecord
	certificates []certificates.Certificate
}

// Collector serves the metrics of a node by HTTP. Use New to create one.
type Collector struct {
	*action.Env
	statFilesystem func(path string) (probe.DiskSpace, error)

	mu               sync.Mutex
	last             snapshot
	cluster          clusterState
	clusterRead      time.Time // when all but the certificates was read; zero if that failed
	certificatesRead time.Time
}

// New returns a Collector for the node of env.
func New(env *action.Env) *Collector {
	return &Collector{Env: env, statFilesystem: probe.StatFilesystem}
}

// ServeHTTP answers a scrape. Scrapes wait for each other, so that several cost no more than one.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	all := families(c.snapshot(r.Context()))
	w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain))) // every version of Prometheus reads it
	for _, f := range all {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil { // the client has disconnected
			return
		}
	}
}

// snapshot returns the state of the node, less than hostMaxAge old.
func (c *Collector) snapshot(ctx context.Context) snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := c.Now().Sub(c.last.now); age < 0 || age >= hostMaxAge {
		c.last = c.collect(context.WithoutCancel(ctx)) // others wait for it, too
	}
	return c.last
}

// collect reads the state of the node. It changes nothing.
func (c *Collector) collect(ctx context.Context) snapshot {
	s := snapshot{now: c.Now(), version: c.Version, read: map[source]bool{}}
	env := c.ReadOnly()
	installed, err := readReceipt(env, &s)
	s.read[sourceReceipt] = err == nil && installed
	s.read[sourceJournal] = readJournal(env, &s) == nil
	s.certificates = certificates.ReadHost(env.Host, env.DataDir, s.now)
	s.read[sourceCertificates] = true // one that cannot be read is a value
	s.imageBytes, err = contentSize(env.Host)
	s.read[sourceImages] = err == nil
	s.spaces, err = c.readSpaces(k0s.DataDir, env.DataDir)
	s.read[sourceFilesystem] = err == nil
	if !installed || s.receipt.Role == token.Worker {
		return s
	}
	s.backup, _, err = backup.ReadRecord(env.Host, env.DataDir)
	s.read[sourceBackup] = err == nil
	err = c.readCluster(ctx, s.receipt, s.now)
	if s.read[sourceCluster] = err == nil; err == nil {
		s.cluster = c.cluster
	}
	return s
}

// readReceipt reads what this host is. installed is false while its first install or join is not finished.
func readReceipt(env *action.Env, s *snapshot) (installed bool, err error) {
	if s.receipt, installed, err = journal.ReadReceipt(env.Host, env.DataDir); err != nil {
		return false, err
	}
	_, s.removed, err = node.ReadRemoval(env.Host, env.DataDir)
	return installed, err
}

// readJournal reads the last run, and the one that holds the lock now.
func readJournal(env *action.Env, s *snapshot) error {
	j, err := journal.Open(env.Host, env.DataDir, env.Now)
	if err != nil {
		return err
	}
	holder, held := env.LockHolder()
	s.active = held
	if runs := j.Runs(); len(runs) > 0 {
		last := runs[len(runs)-1]
		s.lastVerb, s.lastStart = last.Verb, last.StartedAt
		s.unfinished = last.Unfinished() && (!held || !last.IsOf(holder))
	}
	return nil
}

// contentSize returns the size of all complete blobs in containerd's store, in bytes.
func contentSize(h host.Files) (total int64, err error) {
	blobs, err := h.ReadDir(k0s.ContentDir)
	if err != nil {
		return 0, err
	}
	for _, b := range blobs {
		info, err := b.Info()
		if errors.Is(err, fs.ErrNotExist) { // containerd has just removed it
			continue
		}
		if err != nil {
			return 0, err
		}
		total += info.Size()
	}
	return total, nil
}

// readSpaces returns the sizes of the file systems that hold paths.
func (c *Collector) readSpaces(paths ...string) (all []space, err error) {
	for _, p := range paths {
		d, err := c.statFilesystem(p)
		if err != nil {
			return nil, err
		}
		all = append(all, space{p, d.Size, d.Available})
	}
	return all, nil
}

// readCluster reads the state of the cluster, unless it is new enough.
func (c *Collector) readCluster(ctx context.Context, receipt journal.Receipt, now time.Time) error {
	isNew := func(at time.Time, maxAge time.Duration) bool {
		age := now.Sub(at)
		return age >= 0 && age < maxAge
	}
	if isNew(c.clusterRead, clusterMaxAge) {
		return nil
	}
	c.clusterRead = time.Time{}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	client, err := c.KubeClient()
	if err != nil {
		return err
	}
	if c.cluster.nodes, err = client.NodeRecords(ctx); err != nil {
		return err
	}
	if c.cluster.upgrade, err = client.UpgradeRecord(ctx); err != nil {
		return err
	}
	if c.cluster.tokens, err = (token.Store{Core: client.Core(), Now: c.Now}).List(ctx); err != nil {
		return err
	}
	if !isNew(c.certificatesRead, certificatesMaxAge) {
		if c.cluster.certificates, err = certificates.ReadCluster(ctx, client, receipt, now); err != nil {
			return err
		}
		c.certificatesRead = now
	}
	c.clusterRead = now
	return nil
}
