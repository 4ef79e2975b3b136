// Package action provides the environment in which every command on a host runs: the
// host, the data folder, the lock, the log and the event listeners.
package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/ui"
)

// Paths that all commands share.
const (
	LogDir   = "/var/log/plinth"
	lockPath = "/run/plinth.lock"
	FetchDir = "/var/cache/plinth" // content downloaded for an install; removed when the install is done
)

// GlobalOptions are the settings that the process passes to every command.
type GlobalOptions struct {
	DataDir string                                           // Plinth's own folder; "" for the one recorded on this host, or the default
	LogFile string                                           // "" for a new file in LogDir for each run
	Verbose bool                                             // -v: warnings come with all details
	Version string                                           // version of this build
	Events  func(step.Event)                                 // receives the progress
	Note    func(text string)                                // receives warnings and notices
	Confirm func(ctx context.Context, question string) error // asks before the first change; a nil error means yes
	// ConfirmTyped asks the user to type word before an action that cannot be
	// undone; a nil error means yes. instead names the flags that confirm without
	// a prompt.
	ConfirmTyped func(ctx context.Context, question, word, instead string) error
	Secrets      *ui.Secrets      // collects values that must not be shown
	Now          func() time.Time // the clock

	Failpoints *failpoint.Set // where to crash or fail on purpose; nil except in a fault test
}

// Env is the environment of one command that runs on this machine.
type Env struct {
	GlobalOptions
	Host      host.Host
	Downloads string // folder for fetched content; "" for FetchDir

	journal *journal.Journal // the journal opened last
	log     *ui.RunLog       // the log file, while WithLock runs
}

// New returns an Env for the machine on which this process runs.
func New(c GlobalOptions) *Env {
	h := host.Local("/")
	if c.DataDir == "" {
		c.DataDir = journal.FindDir(h)
	}
	return &Env{GlobalOptions: c, Host: h}
}

// RequireRoot returns a usage problem unless this process runs as root.
func RequireRoot(verb string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return problem.New(problem.ExitUsage, verb, errors.New("this command needs root"), "run it again with sudo; nothing on this host was changed")
}

// CheckDataDirFlag returns a usage problem unless dir, the value of --data-dir, can be
// used: "", or an absolute path that no other user can replace or write into. The folder
// that this host already uses is accepted, so that its agent starts and a reset works.
func CheckDataDirFlag(dir string) error {
	doing := "use the data directory " + dir
	switch {
	case dir == "" || dir == journal.FindDir(host.Local("/")):
		return nil
	case !filepath.IsAbs(dir):
		return problem.New(problem.ExitUsage, doing, errors.New("it is not an absolute path"), "give --data-dir an absolute path, such as /var/lib/plinth")
	}
	why, err := host.WritableByOthers(dir)
	if err == nil && why != "" {
		err = errors.New(why)
	}
	if err != nil {
		return problem.New(problem.ExitUsage, doing, err, "give --data-dir a folder that only root can write, in folders that only root can write (chown root FOLDER; chmod go-w FOLDER); nothing on this host was changed")
	}
	return nil
}

// CheckDataDir returns a usage problem unless the data folder belongs to Plinth or
// can be used for it.
func (env *Env) CheckDataDir(verb string) error {
	if why, fix := env.DataDirRefusal(); why != "" {
		return problem.Newf(problem.ExitUsage, verb, fix+"; nothing on this host was changed", "%s", why)
	}
	return nil
}

// DataDirRefusal returns why the data folder cannot be used, and what to do; "" if it can.
func (env *Env) DataDirRefusal() (why, fix string) {
	if why := journal.UnusableReason(env.Host, env.DataDir); why != "" {
		return "the data folder " + env.DataDir + " " + why, "name a folder that only Plinth uses with --data-dir"
	}
	if have := journal.FindDir(env.Host); have != env.DataDir && (have != journal.DefaultDir || journal.IsUsed(env.Host, have)) {
		return fmt.Sprintf("this host's data folder is %s, not %s", have, env.DataDir), "omit --data-dir"
	}
	return "", ""
}

// WithLock runs fn while it holds the lock of this host, so that no other run
// changes the host at the same time. It opens the log file; events and notes are
// written to the log too.
func (env *Env) WithLock(ctx context.Context, verb string, fn func(r *Env, log *ui.RunLog) error) (err error) {
	release, notice, err := journal.Lock(ctx, lockPath, verb, env.Now())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	path := env.LogFile
	if path == "" {
		path = filepath.Join(LogDir, fmt.Sprintf("%s-%s.log", verb, env.Now().UTC().Format("20060102T150405.000Z")))
	}
	return env.withLog(verb, path, func(run *Env, log *ui.RunLog) error {
		if notice != "" {
			run.Note(notice)
		}
		run.ArmFailpoints(verb)
		return fn(run, log)
	})
}

// WithRequestedLog runs fn, and writes events and notes to the log file that the user requests with --log-file, if any.
// It is for a verb that leaves this host as it is.
func (env *Env) WithRequestedLog(verb string, fn func(r *Env) error) error {
	if env.LogFile == "" {
		return fn(env)
	}
	return env.withLog(verb, env.LogFile, func(run *Env, _ *ui.RunLog) error { return fn(run) })
}

// withLog runs fn with a copy of env that also writes events and notes to a new log file at path. The log
// also gets the error of fn and what the run cost.
func (env *Env) withLog(verb, path string, fn func(r *Env, log *ui.RunLog) error) error {
	file, err := host.CreateLogFile(path)
	if err != nil {
		return problem.New(problem.ExitUsage, "open the log "+path, err, "name a new file in a writable folder with --log-file")
	}
	log := ui.NewRunLog(file, env.Now, env.Secrets)
	log.Note("plinth " + env.Version + " " + verb)
	run := *env
	run.LogFile, run.log = path, log
	run.Events = func(e step.Event) { log.Event(e); env.Events(e) }
	run.Note = func(text string) { log.Note(text); env.Note(text) }
	started := env.Now()
	err = fn(&run, log)
	if err != nil {
		log.Note(err.Error())
	}
	log.Note(fmt.Sprintf("peak memory %.0f MB", float64(host.PeakMemory())/1e6))
	if run.journal != nil {
		cost := run.journal.WriteStats()
		log.Note(fmt.Sprintf("journal: %d writes in %.3f s of %.3f s", cost.Writes, cost.Time.Seconds(), env.Now().Sub(started).Seconds()))
	}
	return errors.Join(err, log.Close(), file.Close())
}

// LockHolder returns the run that changes this host now; ok is false when there is
// none.
func (env *Env) LockHolder() (journal.Holder, bool) { return LockHolder(env.Host) }

// LockHolder returns the run that changes the host h now; ok is false when there is none.
func LockHolder(h host.Files) (holder journal.Holder, ok bool) {
	return journal.CurrentHolder(h, lockPath)
}

// ArmFailpoints installs the failpoints of verb, if any are set.
func (env *Env) ArmFailpoints(verb string) {
	if env.Failpoints == nil {
		return
	}
	env.Note("this run may crash on purpose: " + failpoint.EnvVar + " is set")
	env.Host.Files = env.Failpoints.WrapFiles(verb, env.Host.Files, map[string]string{
		filepath.Join(env.DataDir, journal.File):        failpoint.Journal,
		filepath.Join(env.DataDir, journal.CopyFile):    failpoint.Journal,
		filepath.Join(env.DataDir, journal.ReceiptFile): failpoint.Receipt,
	})
	_ = env.Failpoints.Reach(verb, failpoint.Run, failpoint.Started) // this point cannot fail
}

// FetchFolder returns the folder for content that is downloaded for a run.
func (env *Env) FetchFolder() string { return cmp.Or(env.Downloads, FetchDir) }

// Journal returns the journal that OpenJournal opened last; nil before that.
func (env *Env) Journal() *journal.Journal { return env.journal }

// OpenJournal opens the journal in the data folder and reports its notice, if any.
func (env *Env) OpenJournal() (*journal.Journal, error) {
	j, err := journal.Open(env.Host, env.DataDir, env.Now)
	env.journal = j
	if err == nil && j.RecoveryNotice() != "" {
		env.Note("warning: " + j.RecoveryNotice())
	}
	return j, err
}

// StepRunner returns the runner for the steps of verb. It records them with rec; nil
// records nothing.
func (env *Env) StepRunner(verb string, rec step.Recorder) step.Runner {
	runner := step.Runner{Verb: verb, Recorder: rec, OnEvent: env.Events, Now: env.Now, FirstHint: host.DiskHint,
		ResumeHint: "run the same command again: it resumes where it stopped; the log is " + env.LogFile}
	if env.Failpoints != nil {
		runner.OnBoundary = func(id string, b step.Boundary) error { return env.Failpoints.Reach(verb, id, failpoint.Phase(b)) }
	}
	return runner
}

// ReadOnly returns a copy of r that cannot change the host.
func (env *Env) ReadOnly() *Env {
	readOnly := *env
	readOnly.Host = host.ReadOnly(env.Host)
	return &readOnly
}

// RequireInstalled returns the receipt of this host. It returns a usage problem when
// no install was finished here; doing names the command for the message.
func (env *Env) RequireInstalled(doing string) (journal.Receipt, error) {
	if err := RequireRoot(doing); err != nil {
		return journal.Receipt{}, err
	}
	receipt, ok, err := journal.ReadReceipt(env.Host, env.DataDir)
	if err == nil && !ok {
		err = problem.New(problem.ExitUsage, doing, errors.New("this host has no finished install"), "install first, or finish the install: plinth install --bundle FILE")
	}
	return receipt, err
}

// RefuseWorker returns a usage problem if receipt is that of a worker, which has no
// administrator's credentials; doing names the command for the message.
func RefuseWorker(doing string, receipt journal.Receipt) error {
	if receipt.Role != token.Worker {
		return nil
	}
	return problem.New(problem.ExitUsage, doing, errors.New("this host is a worker"), "run it on a controller of the cluster")
}

// KubeClient returns a client for the Kubernetes API of the cluster on this host.
func (env *Env) KubeClient() (*kube.Client, error) { return KubeClient(env.Host) }

// KubeClient returns a client for the Kubernetes API of the cluster on h. It uses the
// administrator's kubeconfig of k0s.
func KubeClient(h host.Files) (*kube.Client, error) {
	conf, err := h.ReadFile(k0s.AdminConf)
	if err != nil {
		return nil, err
	}
	return kube.New(conf)
}

// CleanupScope returns the scope of a search for what a cluster left on this host.
// podCIDRs are the networks of its pods.
func (env *Env) CleanupScope(podCIDRs ...netip.Prefix) cleanup.Scope {
	c := cleanup.DefaultScope(podCIDRs...)
	c.ExtraPaths = append(c.ExtraPaths, FetchDir)
	for _, path := range []string{k0s.BinaryPath, kots.BinaryPath, node.AgentBinary} {
		c.ExtraPaths = append(c.ExtraPaths, path, host.TempPath(path))
	}
	c.ExtraPaths = append(c.ExtraPaths, host.TempPath(node.ProgramPath)) // the program itself goes with the journal
	return c
}

// NoteForeignProgram notes that the plinth on the PATH is not self, the artifact of this
// program, and that the install leaves it. A link to this program, and one with an embedded
// bundle, are what the user wants there.
func (env *Env) NoteForeignProgram(self node.Artifact) error {
	self.Path = node.ProgramPath
	foreign, err := node.Program{File: self, Installed: plan.InstalledPrograms(env.Journal())}.IsForeign(env.Host)
	if err == nil && foreign && !isRunningProgram(node.ProgramPath) {
		env.Note("warning: " + node.ProgramPath + " is another program or another version of plinth, which this command does not replace. " +
			"To get this version there: move it away, then run the same command again")
	}
	return err
}

// ClusterName returns the name of the cluster to which the runs in j belong, or ""
// when none of them recorded it.
func ClusterName(j *journal.Journal) (name string) {
	for _, r := range j.Runs() {
		name = cmp.Or(r.Args.Cluster, name)
	}
	return name
}

// KOTS returns a client for the KOTS console in namespace.
func (env *Env) KOTS(namespace string) (*kots.Client, error) {
	client, err := env.KubeClient()
	if err != nil {
		return nil, err
	}
	return plan.NewKOTS(env.Host, client, namespace, env.DataDir), nil
}

// AgentArtifact returns this executable as the file from which the agent runs. It
// includes an embedded key but no embedded bundle, because a node does not need the
// bundle twice.
func (env *Env) AgentArtifact() (node.Artifact, error) {
	open := func() (io.ReadCloser, error) { return openWithoutBundle("/proc/self/exe") }
	f, err := open()
	if err != nil {
		return node.Artifact{}, err
	}
	defer func() { _ = f.Close() }()
	sum := digest.SHA256.Digester()
	n, err := io.Copy(sum.Hash(), f)
	return node.Artifact{Path: node.AgentBinary, Mode: 0o755, Size: n, Digest: sum.Digest(), Open: open}, err
}
