package status

import (
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/velero"
)

func TestAddOverview_NamesEachClaimOnce(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var s snapshotState
	last := velero.EndedSnapshot{Name: "a", TakenAt: now.Add(-time.Hour)}
	s.addOverview(velero.Overview{Last: last, Missing: []string{"app/db", "app/old"}}, []string{"app/old"}, now)
	const want = "the last snapshot, a, has no data of the claims app/db: their pods did not run, or the annotation backup.velero.io/backup-volumes " +
		"has a space beside a comma; start them, or remove the space, and take another snapshot"
	if len(s.warnings) != 1 || s.warnings[0] != want || s.last == nil || s.last.AgeSeconds != 3600 {
		t.Errorf("%+v", s)
	}
}
