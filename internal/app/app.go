// Package app owns the verbs: it opens the bundle, reads the manifests, asks
// the gate and the preflights, puts host, source, journal and steps together,
// and runs them. It refuses to know flags, terminals and how anything is done
// below a step.
package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/plinthdev/plinth/internal/app/status"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// Defaults of the global flags.
const (
	DefaultDataDir = "/var/lib/plinth"
	LogDir         = "/var/log/plinth"
	lockPath       = "/run/plinth.lock"
)

// Config is what the process gives to all verbs.
type Config struct {
	DataDir string                                           // Plinth's own folder; "" for DefaultDataDir
	LogFile string                                           // "" for a file of its own per run in LogDir
	Version string                                           // of this build
	Events  func(step.Event)                                 // is told the progress
	Note    func(text string)                                // is told warnings and notices
	Confirm func(ctx context.Context, question string) error // asks before the first change; nil error is yes
	Secrets *runlog.Secrets                                  // learns what must not be shown
	Now     func() time.Time                                 // the clock
}

// App runs verbs on this machine.
type App struct {
	Config
	host host.Host
}

// New returns an App for the machine it runs on.
func New(c Config) *App {
	if c.DataDir == "" {
		c.DataDir = DefaultDataDir
	}
	return &App{Config: c, host: host.Local("/")}
}

// needRoot is a usage problem unless this process is root.
func needRoot(verb string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return problem.New(problem.ExitUsage, verb, errors.New("this needs root"), "run it again with sudo; nothing on this host was changed")
}

// usable is a usage problem unless the data folder is Plinth's own or can
// become so.
func (a *App) usable(verb string) error {
	if why := journal.Unusable(a.host, a.DataDir); why != "" {
		return problem.Newf(problem.ExitUsage, verb, "name a folder of Plinth's own with --data-dir; nothing on this host was changed", "the data folder %s %s", a.DataDir, why)
	}
	return nil
}

// changing runs fn as the only run on this host that changes it, with a log
// file. Events and notes go to the log too.
func (a *App) changing(verb string, fn func(run *App, log *runlog.Log) error) (err error) {
	release, err := journal.Lock(lockPath, verb, a.Now())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	path := a.LogFile
	if path == "" {
		path = filepath.Join(LogDir, fmt.Sprintf("%s-%s.log", verb, a.Now().UTC().Format("20060102T150405.000Z")))
	}
	file, err := host.CreateLog(path)
	if err != nil {
		return problem.New(problem.ExitUsage, "open the log "+path, err, "name a new file that can be made with --log-file")
	}
	log := runlog.NewLog(file, a.Now, a.Secrets)
	log.Note("plinth " + a.Version + " " + verb)
	run := *a
	run.LogFile = path
	run.Events = func(e step.Event) { log.Event(e); a.Events(e) }
	run.Note = func(text string) { log.Note(text); a.Note(text) }
	err = fn(&run, log)
	if err != nil {
		log.Note(err.Error())
	}
	log.Note(fmt.Sprintf("peak memory %.0f MB", float64(host.PeakMemory())/1e6))
	return errors.Join(err, log.Close(), file.Close())
}

// runner is the step machine of a verb.
func (a *App) runner(verb string, rec step.Recorder) step.Runner {
	return step.Runner{Verb: verb, Recorder: rec, Events: a.Events, Now: a.Now,
		Resume: "run the same command again: it goes on where it stopped; the log is " + a.LogFile}
}

// Status looks at this host and its cluster; it changes nothing.
func (a *App) Status(ctx context.Context) (status.Status, error) {
	if err := needRoot("tell the status"); err != nil {
		return status.Status{}, err
	}
	return status.Look(ctx, a.readOnly().host, a.DataDir, a.Now)
}
