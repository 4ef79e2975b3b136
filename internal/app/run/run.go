// Package run owns what every verb of a host runs in: the host, the data
// folder, lock and log, and whom to tell. It refuses to know any verb.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/leftover"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// Defaults of the global flags.
const (
	LogDir   = "/var/log/plinth"
	lockPath = "/run/plinth.lock"
	FetchDir = "/var/cache/plinth" // what is fetched for an install, until it is done
)

// Config is what the process gives to all verbs.
type Config struct {
	DataDir string                                           // Plinth's own folder; "" for the one that this host has, or the default
	LogFile string                                           // "" for a file of its own per run in LogDir
	Version string                                           // of this build
	Events  func(step.Event)                                 // is told the progress
	Note    func(text string)                                // is told warnings and notices
	Confirm func(ctx context.Context, question string) error // asks before the first change; nil error is yes
	// Type asks for word to be typed, for what cannot be undone; nil error is
	// yes. instead is the flags that agree without being asked.
	Type    func(ctx context.Context, question, word, instead string) error
	Secrets *runlog.Secrets  // learns what must not be shown
	Now     func() time.Time // the clock

	Failpoints *failpoint.Set // what to die or fail of on purpose; nil but in a drill
}

// Run is one command's run on this machine.
type Run struct {
	Config
	Host host.Host

	journal *journal.Journal // that was opened last
}

// New returns a Run on the machine that this process runs on.
func New(c Config) *Run {
	h := host.Local("/")
	if c.DataDir == "" {
		c.DataDir = journal.Dir(h)
	}
	return &Run{Config: c, Host: h}
}

// NeedRoot is a usage problem unless this process is root.
func NeedRoot(verb string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return problem.New(problem.ExitUsage, verb, errors.New("this needs root"), "run it again with sudo; nothing on this host was changed")
}

// Usable is a usage problem unless the data folder is Plinth's own or can
// become so.
func (r *Run) Usable(verb string) error {
	if why := journal.Unusable(r.Host, r.DataDir); why != "" {
		return problem.Newf(problem.ExitUsage, verb, "name a folder of Plinth's own with --data-dir; nothing on this host was changed", "the data folder %s %s", r.DataDir, why)
	}
	if have := journal.Dir(r.Host); have != journal.DefaultDir && have != r.DataDir {
		return problem.Newf(problem.ExitUsage, verb, "leave --data-dir out; nothing on this host was changed", "this host's data folder is %s, not %s", have, r.DataDir)
	}
	return nil
}

// Changing runs fn as the only run on this host that changes it, with a log
// file. Events and notes go to the log too.
func (r *Run) Changing(ctx context.Context, verb string, fn func(r *Run, log *runlog.Log) error) (err error) {
	release, notice, err := journal.Lock(ctx, lockPath, verb, r.Now())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	path := r.LogFile
	if path == "" {
		path = filepath.Join(LogDir, fmt.Sprintf("%s-%s.log", verb, r.Now().UTC().Format("20060102T150405.000Z")))
	}
	file, err := host.CreateLog(path)
	if err != nil {
		return problem.New(problem.ExitUsage, "open the log "+path, err, "name a new file that can be made with --log-file")
	}
	log := runlog.NewLog(file, r.Now, r.Secrets)
	log.Note("plinth " + r.Version + " " + verb)
	run := *r
	run.LogFile = path
	run.Events = func(e step.Event) { log.Event(e); r.Events(e) }
	run.Note = func(text string) { log.Note(text); r.Note(text) }
	if notice != "" {
		run.Note(notice)
	}
	run.Arm(verb)
	began := r.Now()
	err = fn(&run, log)
	if err != nil {
		log.Note(err.Error())
	}
	log.Note(fmt.Sprintf("peak memory %.0f MB", float64(host.PeakMemory())/1e6))
	if run.journal != nil {
		cost := run.journal.Cost()
		log.Note(fmt.Sprintf("journal: %d writes in %.3f s of %.3f s", cost.Writes, cost.Time.Seconds(), r.Now().Sub(began).Seconds()))
	}
	return errors.Join(err, log.Close(), file.Close())
}

// Holder is the run that changes this host now; ok is false when none does.
func (r *Run) Holder() (journal.Holder, bool) { return journal.Holding(r.Host, lockPath) }

// Arm puts the failpoints of verb in place, where any are set.
func (r *Run) Arm(verb string) {
	if r.Failpoints == nil {
		return
	}
	r.Note("this run may die on purpose: " + failpoint.Variable + " is set")
	r.Host.Files = r.Failpoints.Files(verb, r.Host.Files, map[string]string{
		filepath.Join(r.DataDir, journal.File):        failpoint.Journal,
		filepath.Join(r.DataDir, journal.CopyFile):    failpoint.Journal,
		filepath.Join(r.DataDir, journal.ReceiptFile): failpoint.Receipt,
	})
	_ = r.Failpoints.At(verb, failpoint.Run, failpoint.Started) // none can fail there
}

// Journal opens the journal of the data folder.
func (r *Run) Journal() (*journal.Journal, error) {
	j, err := journal.Open(r.Host, r.DataDir, r.Now)
	r.journal = j
	if err == nil && j.Notice() != "" {
		r.Note("warning: " + j.Notice())
	}
	return j, err
}

// Steps is the step machine of a verb.
func (r *Run) Steps(verb string, rec step.Recorder) step.Runner {
	runner := step.Runner{Verb: verb, Recorder: rec, Events: r.Events, Now: r.Now,
		Resume: "run the same command again: it goes on where it stopped; the log is " + r.LogFile}
	if r.Failpoints != nil {
		runner.At = func(id string, b step.Boundary) error { return r.Failpoints.At(verb, id, failpoint.Moment(b)) }
	}
	return runner
}

// ReadOnly is a Run that can only look at the host.
func (r *Run) ReadOnly() *Run {
	look := *r
	look.Host = host.ReadOnly(r.Host)
	return &look
}

// Installed is the receipt of this host; a usage problem when there is none.
func (r *Run) Installed(doing string) (journal.Receipt, error) {
	if err := NeedRoot(doing); err != nil {
		return journal.Receipt{}, err
	}
	receipt, ok, err := journal.ReadReceipt(r.Host, r.DataDir)
	if err == nil && !ok {
		err = problem.New(problem.ExitUsage, doing, errors.New("no finished install is on this host"), "install first, or finish it: plinth install --bundle FILE")
	}
	return receipt, err
}

// Client is the API of the cluster on this host.
func (r *Run) Client() (*kube.Client, error) { return Client(r.Host) }

// Client is the API of the cluster on a host.
func Client(h host.Files) (*kube.Client, error) {
	conf, err := h.ReadFile(k0s.AdminConf)
	if err != nil {
		return nil, err
	}
	return kube.New(conf)
}

// Leftover says whose leftovers are looked for on this host: those of a cluster
// whose pods have podCIDRs.
func (r *Run) Leftover(podCIDRs ...netip.Prefix) leftover.Cluster {
	c := leftover.Default(podCIDRs...)
	c.Extra = append(c.Extra, FetchDir)
	for _, path := range []string{k0s.Binary, kots.Binary, node.AgentBinary} {
		c.Extra = append(c.Extra, path, host.TempPath(path))
	}
	return c
}

// The journal's names for what runs were asked for.
const (
	ArgPodCIDR = "podCIDR" // the pods' network
	ArgName    = "name"    // of the cluster
	ArgPlan    = "plan"    // digest of the plan that was done
	ArgFacts   = "facts"   // digest of what was found on the host
	ArgSteps   = "steps"   // how many steps there were to do
)

// Steps adds to what a run was asked for how many steps it has to do.
func Steps(args map[string]string, n int) map[string]string {
	args[ArgSteps] = strconv.Itoa(n)
	return args
}

// ClusterName is the name of the cluster that the runs in a journal are about;
// "" when they do not tell.
func ClusterName(j *journal.Journal) (name string) {
	for _, r := range j.Runs() {
		if n := r.Args[ArgName]; n != "" {
			name = n
		}
	}
	return name
}

// KOTS drives the console in namespace.
func (r *Run) KOTS(namespace string) (*kots.KOTS, error) {
	client, err := r.Client()
	if err != nil {
		return nil, err
	}
	return plan.KOTS(r.Host, client, namespace, r.DataDir), nil
}

// Self is this program, at the place from which the agent runs: with the key
// that is sealed onto it, and without a bundle, which no node needs twice.
func (r *Run) Self() (node.Artifact, error) {
	open := func() (io.ReadCloser, error) { return program("/proc/self/exe") }
	f, err := open()
	if err != nil {
		return node.Artifact{}, err
	}
	defer func() { _ = f.Close() }()
	sum := digest.SHA256.Digester()
	n, err := io.Copy(sum.Hash(), f)
	return node.Artifact{Path: node.AgentBinary, Mode: 0o755, Size: n, Digest: sum.Digest(), Open: open}, err
}
