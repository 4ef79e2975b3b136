// Package faulttest kills commands at failpoints and verifies that they resume or can be reset.
package faulttest

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/velero"
)

// verbSteps is one command that changes a host and the steps that it can have, in order.
type verbSteps struct {
	name    string
	steps   []step.Step
	receipt bool // writes a receipt
}

// allVerbSteps returns the commands that change a host.
func allVerbSteps() ([]verbSteps, error) {
	parts, err := addons.All()
	if err != nil {
		return nil, err
	}
	for i := range parts { // velero then has the steps of its own store, too
		parts[i].Values = map[string]any{"objectStore": map[string]any{"enabled": true}}
	}
	parts = append(parts, addons.AddOn{Name: strings.TrimPrefix(failpoint.AnyChart, "chart-"), External: true})
	cluster := plan.Cluster{AddOns: parts, KotsFile: node.Artifact{Path: kots.BinaryPath}, AgentFile: node.Artifact{Path: "plinth"}, ProgramFile: node.Artifact{Path: "plinth"}, StateStore: &journal.Journal{}, Console: plan.Console{App: &kots.App{}}}
	install, join := plan.Install(cluster), plan.Join(cluster, nil, &plan.APIAccess{})
	reset := append(plan.LeaveSteps{Kube: &kube.Client{}}.List(), plan.Reset(node.Leftovers(host.Host{}, cleanup.DefaultScope()))...)
	reset = append(reset, step.Step{ID: "data-dir"})
	upgrade := plan.Upgrade(cluster, plan.Transition{To: "new", Dropped: parts})
	whole := plan.Snapshot{Data: &plan.SnapshotData{Etcd: &plan.DataFile{}, Console: &plan.DataFile{}}}
	cluster.Console.URL = "https://"
	rollback := plan.Rollback(cluster, plan.Reversal{Snapshot: whole, WithData: true})
	backup := plan.WriteBackup(plan.Backup{RemoveOlder: func(context.Context, step.Report) error { return nil }})
	restore := plan.Restore(cluster, plan.Restoration{RemoveLost: true})
	snapshot := plan.SnapshotRestore{RegistrySnapshot: "r", ReadOnly: true, AppImages: plan.AppImages{Bundle: "a"}}
	inStore := snapshot
	inStore.Location = &velero.Location{}
	for _, s := range slices.Concat(plan.RestoreOnNewHost(cluster, plan.Restoration{}), plan.RestoreSnapshot(cluster, snapshot), plan.RestoreSnapshot(cluster, inStore)) {
		if !slices.ContainsFunc(restore, func(known step.Step) bool { return known.ID == s.ID }) {
			restore = append(restore, s)
		}
	}
	return []verbSteps{{"install", install, true}, {"join", join, true}, {"reset", reset, false}, {"upgrade", upgrade, true}, {"rollback", rollback, false}, {"backup", backup, false}, {"restore", restore, true},
		{"repair", plan.Readdress(cluster, plan.Readdressing{}), true}}, nil
}

// Points returns all failpoints in the order in which a run can reach them.
func Points() ([]failpoint.Point, error) {
	all, err := allVerbSteps()
	if err != nil {
		return nil, err
	}
	var points []failpoint.Point
	for _, v := range all {
		objects := []string{failpoint.Run, failpoint.Journal}
		for _, s := range v.steps {
			objects = append(objects, s.ID)
		}
		if v.receipt {
			objects = append(objects, failpoint.Receipt)
		}
		for _, object := range objects {
			for _, m := range failpoint.Phases(object) {
				points = append(points, failpoint.Point{Verb: v.name, Object: object, Phase: m})
			}
		}
	}
	return points, nil
}

// PointNames returns the names of Points.
func PointNames() ([]string, error) {
	points, err := Points()
	return pointNames(points), err
}

// FindUnknownPoint returns the first of names, each NAME or NAME#N, that is not a failpoint, or "" if all are.
// known are the names of all.
func FindUnknownPoint(names []string) (unknown string, known []string, err error) {
	points, err := Points()
	for _, name := range names {
		name, _, _ = strings.Cut(name, "#")
		if _, err := failpoint.Parse(name+"="+string(failpoint.Kill), points); err != nil {
			return name, pointNames(points), nil
		}
	}
	return "", nil, err
}

func pointNames(points []failpoint.Point) []string {
	all := make([]string, 0, len(points))
	for _, p := range points {
		all = append(all, p.String())
	}
	return all
}

// ArmFromEnviron returns the failpoints that the variable failpoint.EnvVar in
// environ (KEY=VALUE) arms. It returns nil if the variable is not set or this
// process does not run as root. A value that cannot be parsed is a usage problem;
// near suggests the name that was probably meant, or "". say receives a message
// before a failpoint kills this process.
func ArmFromEnviron(environ []string, near func(name string, names []string) string, say func(string)) (*failpoint.Set, error) {
	text := ""
	for _, kv := range environ {
		if value, ok := strings.CutPrefix(kv, failpoint.EnvVar+"="); ok {
			text = value
		}
	}
	if text == "" || action.RequireRoot("") != nil {
		return nil, nil
	}
	points, err := Points()
	if err != nil {
		return nil, err
	}
	rules, err := failpoint.Parse(text, points)
	if err == nil {
		return failpoint.Arm(rules, processEffects(say)), nil
	}
	hint := "list the failpoints with: plinth debug fault-test list; nothing was changed"
	var unknown *failpoint.UnknownError
	if errors.As(err, &unknown) {
		if name := near(unknown.Name, pointNames(points)); name != "" {
			hint = "did you mean " + name + "?\n" + hint
		}
	}
	return nil, problem.New(problem.ExitUsage, "arm the failpoints in "+failpoint.EnvVar, err, hint)
}

// processEffects returns the effects of failpoints on this process.
func processEffects(say func(string)) failpoint.Effects {
	return failpoint.Effects{
		Log:   say,
		Kill:  func() { _ = host.Local("/").Kill(os.Getpid()); select {} },
		Sleep: func(d time.Duration) { <-time.After(d) },
	}
}
