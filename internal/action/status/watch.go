package status

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/wait"
)

// WatchInterval is the time between two reads of the status by Watch.
const WatchInterval = 2 * time.Second

// Watch calls show with the status of this host and of its cluster, and again with each one that differs from the last.
// It returns nil when ctx ends, and the error of a read or of show.
func Watch(ctx context.Context, env *action.Env, show func(Status) error) error {
	return watch(ctx, WatchInterval, func(ctx context.Context) (Status, error) { return Get(ctx, env) }, show)
}

// watch calls show with each new status that get returns, with a pause between two calls of get.
func watch(ctx context.Context, pause time.Duration, get func(context.Context) (Status, error), show func(Status) error) error {
	var shown []byte
	for {
		s, err := get(ctx)
		if ctx.Err() != nil { // the status of a canceled read is incomplete
			return nil
		}
		if err != nil {
			return err
		}
		state, err := s.state()
		if err != nil {
			return err
		}
		if !bytes.Equal(state, shown) {
			if err := show(s); err != nil {
				return err
			}
			shown = state
		}
		if wait.Sleep(ctx, pause) != nil {
			return nil
		}
	}
}

// state returns what is compared of two statuses: its JSON without what differs each time although nothing has changed,
// which are times and ages, and the numbers of local ports in errors.
func (s Status) state() ([]byte, error) {
	s.Time, s.Details = time.Time{}, nil
	if s.Backup != nil {
		last := *s.Backup
		last.AgeSeconds = 0
		s.Backup = &last
	}
	if s.Snapshot != nil {
		last := *s.Snapshot
		last.AgeSeconds = 0
		s.Snapshot = &last
	}
	return json.Marshal(s)
}
