package status

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/velero"
)

// snapshotState is the state of the snapshots of a cluster.
type snapshotState struct {
	namespace string // of Velero
	last      *Snapshot
	warnings  []string // why snapshots fail, or are not complete
}

// inspectSnapshots returns the last snapshot of a cluster with Velero, and why snapshots fail or are not complete. Queries
// that fail are reported by others.
func inspectSnapshots(ctx context.Context, client *kube.Client, r journal.Receipt, now time.Time) (s snapshotState) {
	i := slices.IndexFunc(r.AddOns, func(a journal.AddOn) bool { return a.Name == "velero" })
	if i < 0 {
		return s
	}
	s.namespace = r.AddOns[i].Namespace
	if problem, err := velero.LocationProblem(ctx, client, s.namespace); err == nil && problem != "" {
		s.warnings = append(s.warnings, problem+"; until it is available, snapshots fail")
	}
	var skipped []string
	if claims, err := kube.HostPathPVCs(ctx, client); err == nil && len(claims) > 0 {
		for _, c := range claims {
			skipped = append(skipped, c.String())
		}
		s.warnings = append(s.warnings, velero.SkippedWarning(claims))
	}
	if o, err := velero.ReadOverview(ctx, client, s.namespace); err == nil {
		s.addOverview(o, skipped, now)
	}
	return s
}

// addOverview adds the last snapshot, and warnings of those that failed or lack data. The claims in known are named by another
// warning.
func (s *snapshotState) addOverview(o velero.Overview, known []string, now time.Time) {
	for _, f := range o.Failed {
		log := "its log is on the page Snapshots of the console"
		if !f.InConsole {
			log = "the log of Velero has more: sudo plinth kubectl logs -n " + s.namespace + " deployment/velero"
		}
		s.warnings = append(s.warnings, fmt.Sprintf("the snapshot %s failed at %s, and no later one is complete: %s; %s",
			f.Name, f.TakenAt.Format(time.RFC3339), f.Failure, log))
	}
	if o.Last.Name == "" {
		return
	}
	s.last = &Snapshot{Name: o.Last.Name, TakenAt: o.Last.TakenAt, AgeSeconds: int64(now.Sub(o.Last.TakenAt).Seconds())}
	missing := slices.DeleteFunc(slices.Clone(o.Missing), func(claim string) bool { return slices.Contains(known, claim) })
	if len(missing) > 0 {
		s.warnings = append(s.warnings, fmt.Sprintf("the last snapshot, %s, has no data of the claims %s: their pods did not run, "+
			"or the annotation backup.velero.io/backup-volumes has a space beside a comma; start them, or remove the space, and take another snapshot", o.Last.Name, strings.Join(missing, ", ")))
	}
}
