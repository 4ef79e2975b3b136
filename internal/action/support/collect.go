package support

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/checks"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/certificates"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/wait"
)

// Limits of one part of the collection.
const (
	commandTimeout  = 8 * time.Second
	etcdTimeout     = 3 * time.Second
	clusterTimeout  = 8 * time.Second
	recordsTimeout  = 5 * time.Second
	secretsTimeout  = 20 * time.Second // without the secrets of this host there is no bundle
	snapshotTimeout = 18 * time.Second // all parts
	podLogTimeout   = 4 * time.Second
	logLines        = 2000           // of a log, for the rules
	k0sWindow       = time.Hour      // of the log of k0s, back from its newest line: k0s may have ended days ago
	otherWindow     = 24 * time.Hour // of other logs, back from now
	maxPodLogs      = 30             // containers whose logs the rules read
	podLogLines     = 60             // of each of them
	maxWorkers      = 4              // parts at once
)

// collector collects the state of one host.
type collector struct {
	env      *action.Env // read-only
	hostname string
	journal  *journal.Journal
	receipt  journal.Receipt
	recorded facts.Identity
	install  diagnosis.Install
	client   *kube.Client // nil if there are no credentials

	secretsErr error // why it is not known what must be removed from the objects of the cluster: Secrets or redactors cannot be read
	restricted bool  // it runs in the unit that the agent starts

	diskPaths []string // whose usage the specs of the user request

	mu      sync.Mutex
	missing []facts.Unknown
	objects objectLists // of the cluster
}

// newCollector returns the collector for env's host, with what the records there say. A record that cannot be read
// is listed as missing.
func newCollector(env *action.Env) *collector {
	c := &collector{env: env.ReadOnly(), hostname: unnamedHost}
	c.install.DataDir = env.DataDir
	raw, err := c.env.Host.ReadFile("/proc/sys/kernel/hostname")
	if name := strings.TrimSpace(string(raw)); err == nil && name != "" {
		c.hostname = name
	}
	j, err := journal.Open(c.env.Host, env.DataDir, env.Now)
	if err != nil {
		c.recordMissing("journal", err)
	} else {
		c.journal = j
	}
	receipt, installed, err := journal.ReadReceipt(c.env.Host, env.DataDir)
	if err != nil {
		c.recordMissing("receipt", err)
	}
	c.receipt, c.install.Installed, c.install.UpdatedAt = receipt, installed, receipt.UpdatedAt
	c.install.Worker = receipt.Role == nodes.Worker
	if removed, ok, err := node.ReadRemoval(c.env.Host, env.DataDir); err == nil && ok {
		c.install.Removed = removed.String()
	}
	c.readRuns()
	client, _, err := nodes.NewClient(c.env.Host)
	if err == nil {
		c.client = client
	} else if !errors.Is(err, fs.ErrNotExist) {
		c.recordMissing("credentials of the cluster", err)
	}
	return c
}

// unnamedHost is the name of a host that does not tell its own.
const unnamedHost = "host"

// openCollector is newCollector with a time limit: the disk with the records may not answer.
func openCollector(ctx context.Context, env *action.Env) *collector {
	c, err := readInTime(ctx, func() (*collector, error) { return newCollector(env), nil })
	if err != nil {
		c = &collector{env: env.ReadOnly(), hostname: unnamedHost}
		c.install.DataDir = env.DataDir
		c.recordMissing("records in "+env.DataDir, err)
	}
	return c
}

// readInTime returns what read returns, or an error after recordsTimeout: the disk from which it reads may not answer.
func readInTime[T any](ctx context.Context, read func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, recordsTimeout)
	defer cancel()
	return wait.ForReply(ctx, 0, func(context.Context) (T, error) { return read() })
}

// readRuns sets what the journal says about the last run.
func (c *collector) readRuns() {
	if c.journal == nil {
		return
	}
	c.recorded = desired.RecordedIdentity(c.journal, c.receipt)
	c.install.Worker = c.install.Worker || c.recorded.Unit == k0s.WorkerUnit
	runs := c.journal.Runs()
	if len(runs) == 0 {
		return
	}
	last := runs[len(runs)-1]
	if last.StartedAt.After(c.install.UpdatedAt) {
		c.install.UpdatedAt = last.StartedAt
	}
	if _, running := c.env.LockHolder(); last.Unfinished() && !running {
		c.install.Verb, c.install.Step, c.install.Failed = last.Verb, last.ReachedStep(), last.Failed
	}
}

// recordMissing records that a part could not be collected.
func (c *collector) recordMissing(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missing = append(c.missing, facts.Unknown{Fact: what, Reason: explain(err)})
}

// explain returns why a part could not be collected. Of a command it names the program, not its arguments.
func explain(err error) string {
	var failed *host.CommandError
	if !errors.As(err, &failed) {
		return problem.ExplainConnection(err)
	}
	last, _, _ := strings.Cut(failed.Tail, "\n")
	if last == "" && failed.Err != nil {
		last = failed.Err.Error()
	}
	return failed.Argv[0] + ": " + cmp.Or(last, "exit code "+strconv.Itoa(failed.Code))
}

// unit returns the name of the unit of k0s on the host.
func (c *collector) unit() string {
	if c.install.Worker {
		return k0s.WorkerUnit
	}
	return k0s.ControllerUnit
}

// part is a part of a snapshot. It returns a function that records what it found: a part that hangs, such as on a disk
// that does not answer, must not write after the snapshot is returned.
type part struct {
	name string
	run  func(ctx context.Context) func(*diagnosis.Snapshot)
}

// parts returns the parts of a snapshot that do not need each other.
func (c *collector) parts() []part {
	all := []part{
		{"facts", func(ctx context.Context) func(*diagnosis.Snapshot) {
			found, report := c.gatherFacts(ctx)
			return func(s *diagnosis.Snapshot) { s.Host, s.Preflights = found, report }
		}},
		{"units", func(ctx context.Context) func(*diagnosis.Snapshot) {
			k0sUnit, others := c.readUnits(ctx)
			return func(s *diagnosis.Snapshot) { s.K0s, s.Units = k0sUnit, others }
		}},
		{"ports", func(context.Context) func(*diagnosis.Snapshot) {
			all := probe.Listeners(c.env.Host)
			return func(s *diagnosis.Snapshot) { s.Listeners = all }
		}},
		{"etcd", func(ctx context.Context) func(*diagnosis.Snapshot) {
			state, reason := c.readEtcd(ctx)
			return func(s *diagnosis.Snapshot) { s.Etcd, s.EtcdError = state, reason }
		}},
		{"cluster", func(ctx context.Context) func(*diagnosis.Snapshot) {
			cluster, lists, reason := c.readCluster(ctx)
			logs := c.readPodLogs(ctx, cluster)
			certs := c.readCertificates(ctx, cluster != nil)
			return func(s *diagnosis.Snapshot) {
				c.objects, s.Cluster, s.ClusterError, s.Certificates = lists, cluster, reason, certs
				maps.Copy(s.Logs, logs)
			}
		}},
	}
	for name, args := range c.logSources() {
		all = append(all, part{"log of " + name, func(ctx context.Context) func(*diagnosis.Snapshot) {
			lines := c.readLog(ctx, name, args)
			return func(s *diagnosis.Snapshot) {
				if len(lines) > 0 {
					s.Logs[name] = lines
				}
			}
		}})
	}
	return all
}

// grace is how long parts may take to notice that their time is over.
const grace = 2 * time.Second

// snapshot collects what the rules read. What does not answer in time is listed as missing in it.
func (c *collector) snapshot(ctx context.Context) diagnosis.Snapshot {
	s := diagnosis.Snapshot{Schema: diagnosis.Schema, Time: c.env.Now().UTC(), Recorded: c.recorded, Install: c.install, Logs: map[string][]diagnosis.Line{}}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	parts := c.parts()
	type reply struct {
		part   int
		record func(*diagnosis.Snapshot)
	}
	replies := make(chan reply, len(parts))
	for i, p := range parts {
		go func() { replies <- reply{i, p.run(ctx)} }()
	}
	done := make([]bool, len(parts))
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, func() { close(over) }) })
	defer stop()
	for range parts {
		select {
		case r := <-replies:
			done[r.part] = true
			r.record(&s)
			continue
		case <-over:
		}
		break
	}
	for i, p := range parts {
		if !done[i] {
			c.recordMissing(p.name, wait.ErrNoReply)
		}
	}
	s.Missing = c.missingParts()
	return s
}

// missingParts returns what could not be collected until now, sorted.
func (c *collector) missingParts() []facts.Unknown {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.missing)
	slices.SortFunc(all, func(a, b facts.Unknown) int { return strings.Compare(a.Fact, b.Fact) })
	return all
}

// gatherFacts returns the facts of the host, and the results of the checks that neither bind ports nor measure.
func (c *collector) gatherFacts(ctx context.Context) (facts.Facts, hostpreflight.Report) {
	j := c.journal
	req := hostpreflight.Requirements{}
	if j != nil {
		req = desired.DefaultRequirements(j, c.env.DataDir)
	}
	req.Quick, req.Verb, req.Recorded = true, hostpreflight.Preflight, c.recorded
	if c.install.Worker {
		req.Role = hostpreflight.Worker
	}
	need := checks.FactsRequest(req)
	need.Ports = nil // binding them could stop a k0s that starts
	need.Paths = append(need.Paths, "/", "/tmp", k0s.DataDir+"/etcd")
	need.Paths = append(need.Paths, c.diskPaths...)
	need.Sysctls = append(need.Sysctls, "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max", "vm.overcommit_memory", "kernel.pid_max", "fs.file-max")
	found := probe.Gather(ctx, c.env.Host, need)
	found.Network.NodeAddress = c.recorded.Address
	if j == nil {
		return found, hostpreflight.Report{}
	}
	report, err := hostpreflight.Run(checks.All(), found, req, nil)
	if err != nil {
		c.recordMissing("host preflights", err)
	}
	return found, report
}

// otherUnits are the units besides k0s whose state matters.
var otherUnits = []string{node.AgentUnit, "firewalld.service", "nftables.service", "iptables.service", "ufw.service", "netfilter-persistent.service",
	"fapolicyd.service", "chronyd.service", "chrony.service", "systemd-timesyncd.service", "NetworkManager.service", "systemd-networkd.service", "systemd-resolved.service"}

// readUnits returns the state of k0s and of the other units.
func (c *collector) readUnits(ctx context.Context) (k0sUnit diagnosis.Unit, others []diagnosis.Unit) {
	const properties = "Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,ActiveEnterTimestampMonotonic"
	shown, err := probe.UnitProperties(ctx, c.env.Host, properties, append([]string{c.unit()}, otherUnits...)...)
	if err != nil {
		c.recordMissing("units", err)
		return k0sUnit, nil
	}
	booted := probe.BootTime(c.env.Host, c.env.Now())
	for _, p := range shown {
		u := diagnosis.Unit{Name: p["Id"], Load: p["LoadState"], Active: p["ActiveState"], Sub: p["SubState"], Enabled: p["UnitFileState"], Result: p["Result"]}
		u.Restarts, _ = strconv.Atoi(p["NRestarts"]) // older versions of systemd do not have it
		u.Since = probe.TimeSinceBoot(booted, p["ActiveEnterTimestampMonotonic"])
		switch {
		case u.Name == c.unit():
			k0sUnit = u
		case u.Load != "not-found" && u.Load != "":
			others = append(others, u)
		}
	}
	return k0sUnit, others
}

// logSources returns the arguments of journalctl that select each log of the host.
func (c *collector) logSources() map[string][]string {
	return map[string][]string{
		diagnosis.LogKernel: {"--boot", "_TRANSPORT=kernel", "+", "_TRANSPORT=audit"},
		diagnosis.LogK0s:    {"--unit=" + c.unit()},
		diagnosis.LogAgent:  {"--unit=" + node.AgentUnit},
		diagnosis.LogTime:   {"--unit=chronyd", "--unit=chrony", "--unit=systemd-timesyncd", "--unit=ntpd"},
	}
}

// readLog returns the newest lines of the log name in the journal: of the last day, or of the last hour of k0s.
func (c *collector) readLog(ctx context.Context, name string, selection []string) []diagnosis.Line {
	argv := append([]string{"journalctl", "--no-pager", "--quiet", "--output=short-unix", "--lines=" + strconv.Itoa(logLines)}, selection...)
	if name != diagnosis.LogK0s {
		argv = append(argv, "--since=@"+strconv.FormatInt(c.env.Now().Add(-otherWindow).Unix(), 10))
	}
	out, err := c.env.Host.Run(ctx, host.Cmd{Argv: argv, Timeout: commandTimeout, ReadOnly: true, MaxOutput: maxLogBytes})
	if err != nil {
		c.recordMissing("log: "+strings.Join(selection, " "), err)
	}
	lines := parseLog(string(out))
	if name != diagnosis.LogK0s || len(lines) == 0 {
		return lines
	}
	oldest := lines[len(lines)-1].Time.Add(-k0sWindow)
	return slices.DeleteFunc(lines, func(l diagnosis.Line) bool { return l.Time.Before(oldest) })
}

// parseLog returns the lines of a log in journalctl's format short-unix ("SECONDS HOST PROGRAM[PID]: TEXT").
func parseLog(text string) (lines []diagnosis.Line) {
	for raw := range strings.Lines(text) {
		stamp, rest, _ := strings.Cut(strings.TrimRight(raw, "\n"), " ")
		seconds, err := strconv.ParseFloat(stamp, 64)
		_, message, ok := strings.Cut(rest, ": ")
		if err != nil || !ok || seconds < 0 || seconds > 1e11 {
			continue
		}
		lines = append(lines, diagnosis.Line{Time: time.UnixMilli(int64(seconds * 1000)).UTC(), Text: message})
	}
	return lines
}

// readEtcd returns the state of etcd on a controller, or why it does not answer; neither on another host.
func (c *collector) readEtcd(ctx context.Context) (*diagnosis.Etcd, string) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	client, err := etcd.New(c.env.Host)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ""
	}
	var members []etcd.Member
	var status etcd.Status
	if err == nil {
		members, err = client.Members(ctx)
	}
	if err == nil {
		status, err = client.Status(ctx)
	}
	if err != nil {
		return nil, problem.ExplainConnection(err)
	}
	e := &diagnosis.Etcd{DBSize: status.DBSize, InUse: status.InUse, Alarms: status.Alarms}
	for _, m := range members {
		e.Members = append(e.Members, diagnosis.EtcdMember{Name: m.Name, Address: m.Address, Leader: m.Leader, Learner: m.Learner})
	}
	return e, ""
}

// readCertificates returns the certificates of the host and, if the cluster answers, those in it. Certificates that are
// not used any more are left out.
func (c *collector) readCertificates(ctx context.Context, answers bool) (all []diagnosis.Certificate) {
	now := c.env.Now()
	found := certificates.ReadHost(c.env.Host, c.env.DataDir, now)
	if answers && c.install.Installed && !c.install.Worker {
		ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
		defer cancel()
		more, err := certificates.ReadCluster(ctx, c.client, c.receipt, now)
		if err != nil {
			c.recordMissing("certificates in the cluster", err)
		}
		found = append(found, more...)
	}
	for _, cert := range found {
		if cert.RenewedBy != certificates.ByNone || cert.Authority {
			all = append(all, diagnosis.Certificate{Name: cert.Name, Path: cert.Location, Begins: cert.Begins, Ends: cert.Ends, Overdue: cert.Warning(now)})
		}
	}
	return all
}
