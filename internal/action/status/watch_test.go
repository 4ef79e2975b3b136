package status

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/action/nodes"
)

// series returns a function that returns the statuses one after the other, and then calls end.
func series(end func(), all ...Status) func(context.Context) (Status, error) {
	i := -1
	return func(context.Context) (Status, error) {
		if i++; i == len(all) {
			end()
			return Status{}, nil
		}
		return all[i], nil
	}
}

func TestWatch_ShowsWhatDiffers(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(seconds int, s Status) Status {
		s.Time = start.Add(time.Duration(seconds) * time.Second)
		return s
	}
	ready, down := Status{Installed: true, Service: "active"}, Status{Installed: true, Service: "failed"}
	withBackup := func(age int64) Status {
		return Status{Installed: true, Backup: &Backup{Record: backup.Record{Path: "/mnt/a"}, AgeSeconds: age}}
	}
	withSnapshot := func(age int64) Status {
		return Status{Installed: true, Snapshot: &Snapshot{Name: "a", AgeSeconds: age}}
	}
	withError := func(text string) Status {
		return Status{Installed: true, ClusterView: nodes.ClusterView{Details: []string{text}}}
	}
	for name, c := range map[string]struct {
		read  []Status
		shown []int // index of each status that is shown
	}{
		"nothing changes":          {[]Status{at(0, ready), at(2, ready), at(4, ready)}, []int{0}},
		"k0s stops and starts":     {[]Status{at(0, ready), at(2, down), at(4, down), at(6, ready)}, []int{0, 1, 3}},
		"nothing is installed":     {[]Status{at(0, Status{})}, []int{0}},
		"the backup grows older":   {[]Status{withBackup(1), withBackup(3)}, []int{0}},
		"the snapshot grows older": {[]Status{withSnapshot(1), withSnapshot(3)}, []int{0}},
		"an error from a new port": {[]Status{withError("127.0.0.1:40001: EOF"), withError("127.0.0.1:40002: EOF")}, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var shown []Status
			err := watch(ctx, time.Microsecond, series(cancel, c.read...), func(s Status) error {
				shown = append(shown, s)
				return nil
			})
			if err != nil || len(shown) != len(c.shown) {
				t.Fatalf("%v, shown %+v", err, shown)
			}
			for i, n := range c.shown {
				if want := c.read[n]; shown[i].Time != want.Time || shown[i].Service != want.Service || shown[i].Backup != want.Backup || len(shown[i].Details) != len(want.Details) {
					t.Errorf("%d: %+v, want %+v", i, shown[i], want)
				}
			}
		})
	}
}

func TestWatch_Ends(t *testing.T) {
	failure := errors.New("disk full")
	same := func(context.Context) (Status, error) { return Status{}, nil }
	t.Run("with the error of a read", func(t *testing.T) {
		get := func(context.Context) (Status, error) { return Status{}, failure }
		if err := watch(t.Context(), time.Microsecond, get, func(Status) error { t.Error("shown"); return nil }); !errors.Is(err, failure) {
			t.Error(err)
		}
	})
	t.Run("with the error of an output", func(t *testing.T) {
		if err := watch(t.Context(), time.Microsecond, same, func(Status) error { return failure }); !errors.Is(err, failure) {
			t.Error(err)
		}
	})
	t.Run("in a pause", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		if err := watch(ctx, time.Hour, same, func(Status) error { cancel(); return nil }); err != nil {
			t.Error(err)
		}
	})
	t.Run("without a status that was canceled while it was read", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		get := func(context.Context) (Status, error) { cancel(); return Status{}, context.Canceled }
		if err := watch(ctx, time.Hour, get, func(Status) error { t.Error("shown"); return nil }); err != nil {
			t.Error(err)
		}
	})
}
