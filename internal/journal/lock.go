package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/wait"
)

// Holder is the run that holds the lock.
type Holder struct {
	PID       int       `json:"pid"`       // process id
	Verb      string    `json:"verb"`      // command of the run
	StartedAt time.Time `json:"startedAt"` // UTC
}

// String returns the verb, the process id and the start time of the run.
func (h Holder) String() string {
	return fmt.Sprintf("%s, process %d, since %s", h.Verb, h.PID, h.StartedAt.Format(time.RFC3339))
}

// Lock locks the host at path for the run verb of this process, until release or the end of the process.
// If another run holds the lock, it returns a Problem (ExitLocked) that names the run.
// If the run that held the lock died, Lock takes it over and reports that in notice.
func Lock(ctx context.Context, path, verb string, now time.Time) (release func() error, notice string, err error) {
	note, err := json.Marshal(Holder{PID: os.Getpid(), Verb: verb, StartedAt: now.UTC()})
	if err != nil {
		return nil, "", err
	}
	var theirs []byte
	o := wait.Options{What: "the programs of a dead run to end", Timeout: orphanTimeout, Interval: orphanTimeout / 50, NextCommand: "sudo fuser -v " + path}
	late := wait.Until(ctx, o, func(context.Context) (bool, string, error) {
		release, theirs, err = host.Lock(path, note)
		return !isOrphaned(theirs, err), "", nil
	})
	if ctx.Err() != nil {
		if release != nil {
			_ = release() // the end of this process releases it anyway
		}
		return nil, "", problem.New(problem.ExitInterrupted, verb, context.Cause(ctx), "nothing on this host was changed")
	}
	var h Holder
	known := json.Unmarshal(theirs, &h) == nil
	if errors.Is(err, host.ErrLocked) {
		cause := "another run of plinth holds the lock"
		switch {
		case late != nil:
			return nil, "", problem.Newf(problem.ExitLocked, verb, problem.Hint(late)+"\nnothing on this host was changed", "programs started by a run that died are still running: %s", h)
		case known:
			cause = "another run holds the lock: " + h.String()
		}
		return nil, "", problem.New(problem.ExitLocked, verb, errors.New(cause), "wait until it ends, or stop it with Ctrl-C in its terminal; nothing on this host was changed")
	}
	if err != nil {
		return nil, "", problem.New(problem.ExitInternal, "lock "+path, err, "check that "+filepath.Dir(path)+" is writable: df "+filepath.Dir(path)+"; nothing on this host was changed")
	}
	if known {
		notice = "taking over the lock of a run that died: " + h.String()
	}
	return release, notice, nil
}

// CurrentHolder returns the run that holds the lock at path now; ok is false if there is none.
func CurrentHolder(files interface{ ReadFile(string) ([]byte, error) }, path string) (h Holder, ok bool) {
	note, err := files.ReadFile(path)
	return h, err == nil && json.Unmarshal(note, &h) == nil && h.PID > 0 && host.ProcessExists(h.PID)
}

// orphanTimeout is how long a run waits for programs that a killed run started.
const orphanTimeout = 10 * time.Second

// isOrphaned reports whether a lock that could not be taken is held only by
// programs that a dead run started: note is the content of the lock, err the error of host.Lock.
func isOrphaned(note []byte, err error) bool {
	var h Holder
	return errors.Is(err, host.ErrLocked) && json.Unmarshal(note, &h) == nil && h.PID > 0 && !host.ProcessExists(h.PID)
}
