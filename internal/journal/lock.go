package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/wait"
)

// Holder is who holds the lock.
type Holder struct {
	PID   int       `json:"pid"`   // process id
	Verb  string    `json:"verb"`  // what it is doing
	Began time.Time `json:"began"` // since when, UTC
}

// String says who it is and since when.
func (h Holder) String() string {
	return fmt.Sprintf("%s, process %d, since %s", h.Verb, h.PID, h.Began.Format(time.RFC3339))
}

// Lock makes this process the only one on the host that changes it, until
// release or death. When another run holds it, the Problem (exit 8) names it.
// When the last holder died with it, notice says so: the lock is taken over.
func Lock(ctx context.Context, path, verb string, now time.Time) (release func() error, notice string, err error) {
	note, err := json.Marshal(Holder{PID: os.Getpid(), Verb: verb, Began: now.UTC()})
	if err != nil {
		return nil, "", err
	}
	var theirs []byte
	o := wait.Options{What: "what a dead run has started to end", Timeout: patience, Interval: patience / 50, Next: "sudo fuser -v " + path}
	late := wait.Until(ctx, o, func(context.Context) (bool, string, error) {
		release, theirs, err = host.Lock(path, note)
		return !orphaned(theirs, err), "", nil
	})
	if ctx.Err() != nil {
		if release != nil {
			_ = release() // it ends with this process anyway
		}
		return nil, "", problem.New(problem.ExitInterrupted, verb, context.Cause(ctx), "nothing on this host was changed")
	}
	var h Holder
	known := json.Unmarshal(theirs, &h) == nil
	if errors.Is(err, host.ErrLocked) {
		who := "another run of plinth"
		switch {
		case late != nil:
			return nil, "", problem.Newf(problem.ExitLocked, verb, problem.Hint(late)+"\nnothing on this host was changed", "what a run that died has started still runs: %s", h)
		case known:
			who = "another run holds the lock: " + h.String()
		}
		return nil, "", problem.New(problem.ExitLocked, verb, errors.New(who), "wait for it to end, or end it with Ctrl-C in its terminal; nothing on this host was changed")
	}
	if err != nil {
		return nil, "", problem.New(problem.ExitInternal, "take the lock "+path, err, "")
	}
	if known {
		notice = "taking over the lock of a run that died: " + h.String()
	}
	return release, notice, nil
}

// Holding is the run that holds the lock at path now; ok is false when none does.
func Holding(files interface{ ReadFile(string) ([]byte, error) }, path string) (h Holder, ok bool) {
	note, err := files.ReadFile(path)
	return h, err == nil && json.Unmarshal(note, &h) == nil && h.PID > 0 && host.Alive(h.PID)
}

// patience is how long a run waits for what a killed one left running.
const patience = 10 * time.Second

// orphaned reports whether a lock that could not be taken is held only by
// programs that a dead run has started.
func orphaned(note []byte, err error) bool {
	var h Holder
	return errors.Is(err, host.ErrLocked) && json.Unmarshal(note, &h) == nil && h.PID > 0 && !host.Alive(h.PID)
}
