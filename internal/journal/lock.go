package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

// Holder is who holds the lock.
type Holder struct {
	PID   int       `json:"pid"`   // process id
	Verb  string    `json:"verb"`  // what it is doing
	Began time.Time `json:"began"` // since when, UTC
}

// Lock makes this process the only one on the host that changes it, until
// release or death. When another run holds it, the Problem (exit 8) names it.
func Lock(path, verb string, now time.Time) (release func() error, err error) {
	note, err := json.Marshal(Holder{PID: os.Getpid(), Verb: verb, Began: now.UTC()})
	if err != nil {
		return nil, err
	}
	release, theirs, err := host.Lock(path, note)
	for deadline := time.Now().Add(patience); orphaned(theirs, err) && time.Now().Before(deadline); {
		<-time.After(patience / 50)
		release, theirs, err = host.Lock(path, note)
	}
	if errors.Is(err, host.ErrLocked) {
		who := "another run of plinth"
		var h Holder
		if json.Unmarshal(theirs, &h) == nil {
			who = fmt.Sprintf("another run holds the lock: %s, process %d, since %s", h.Verb, h.PID, h.Began.Format(time.RFC3339))
		}
		return nil, problem.New(problem.ExitLocked, verb, errors.New(who), "wait for it to end, or end it with Ctrl-C in its terminal; nothing on this host was changed")
	}
	if err != nil {
		return nil, problem.New(problem.ExitInternal, "take the lock "+path, err, "")
	}
	return release, nil
}

// patience is how long a run waits for what a killed one left running.
const patience = 10 * time.Second

// orphaned reports whether a lock that could not be taken is held only by
// programs that a dead run has started.
func orphaned(note []byte, err error) bool {
	var h Holder
	return errors.Is(err, host.ErrLocked) && json.Unmarshal(note, &h) == nil && h.PID > 0 && !host.Alive(h.PID)
}
