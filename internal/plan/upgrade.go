package plan

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// Transition is the move of a cluster from one bundle to another.
type Transition struct {
	From, To string            // digests of the bundles; equal if only what differs from the bundle is repaired
	Name     string            // metadata.name of the Installer
	Versions map[string]string // of the components before the upgrade
	Receipt  string            // file that describes what is installed
	Dropped  []addons.AddOn    // add-ons that the new bundle no longer has, in order of installation
	Records  Records           // of the cluster
	Data     ClusterData       // nil for that of the cluster
	Health   Health
	Follows  bool // another controller coordinates the upgrade, and records it in the cluster
	Others   OtherNodes
	TakeOver bool // the node that coordinated this upgrade does not answer; this one finishes it
}

// Records opens the record of the cluster's last upgrade; nil for that of the cluster on the host.
type Records func(ctx context.Context) (UpgradeRecords, error)

// UpgradeRecords reads and changes the record of the cluster's last upgrade; kube.Client implements it.
type UpgradeRecords interface {
	UpgradeRecord(ctx context.Context) (kube.UpgradeRecord, error)
	UpdateUpgradeRecord(ctx context.Context, change func(*kube.UpgradeRecord) error) error
}

// changes reports whether the bundle of the cluster changes.
func (t Transition) changes() bool { return t.From != t.To }

// nodeUpgrade is the upgrade of one node, from inside its cluster.
type nodeUpgrade struct {
	Cluster
	Transition
	dir string // of the snapshot
}

// UpgradeK0sID is the id of the step that lets k0s run with the new program and configuration. The steps
// before it, and those that wait for the node, change nothing in the cluster.
const UpgradeK0sID = "k0s-upgrade"

// Upgrade returns the steps that move a cluster to another bundle, on the controller that coordinates them. All images
// are imported on all nodes before the first k0s is restarted. The documents of the bundle are stored last: a host that
// joins gets the version that the controllers run.
func Upgrade(c Cluster, t Transition) []step.Step {
	c.SkipNodes = t.Others.Skipped
	u := newUpgrade(c, t)
	steps := append([]step.Step{u.lockCluster()}, u.deliverSteps()...)
	steps = append(append(steps, u.deliverNodes()...), u.saveData())
	steps = append(steps, u.switchSteps()...)
	if u.Others.isEmpty() {
		steps = append(steps, c.waitSystemImages())
	}
	steps = append(steps, c.waitSystemPodsStarted(), c.waitSystemPodsReady())
	steps = append(steps, u.upgradeBatches()...)
	if !u.Others.isEmpty() { // only k0s's leader updates the system pods: any of the controllers
		steps = append(steps, c.waitSystemImages())
	}
	steps = append(steps, c.removeMetricsServer()...)
	steps = append(steps, c.applyNodePolicies(), c.secureNamespaces())
	steps = append(steps, u.kotsSteps()...)
	for _, a := range slices.Backward(t.Dropped) {
		steps = append(steps, u.removeAddOn(a))
	}
	steps = append(steps, c.addOnSteps()...)
	steps = append(steps, u.finishSteps()...)
	return append(steps,
		u.compareHealth(),
		u.recordEnd(),
	)
}

func newUpgrade(c Cluster, t Transition) nodeUpgrade {
	u := nodeUpgrade{Cluster: c, Transition: t, dir: SnapshotDir(c.DataDir, t.From)}
	if u.Data == nil {
		u.Data = clusterData{c}
	}
	return u
}

// DeliverNode returns the steps that give a node everything that UpgradeNode needs, besides the programs, which stage
// stores. They change nothing that runs. A controller also saves the data of the cluster.
func DeliverNode(c Cluster, t Transition, stage step.Step) []step.Step {
	u := newUpgrade(c, t)
	return append(append([]step.Step{stage}, u.deliverSteps()...), u.saveData())
}

// UpgradeNode returns the steps that move one node to another bundle, except the one that coordinates the upgrade of its
// cluster, which has the same steps among others.
func UpgradeNode(c Cluster, t Transition) []step.Step {
	u := newUpgrade(c, t)
	steps := append(u.deliverSteps(), u.saveData())
	steps = append(steps, u.switchSteps()...)
	steps = append(steps, u.kotsSteps()...)
	return append(steps, u.finishSteps()...)
}

// deliverSteps returns the steps that change nothing that runs: a copy of what the upgrade changes, then images.
func (u nodeUpgrade) deliverSteps() []step.Step {
	steps := []step.Step{u.saveFiles(), u.createDataDir()}
	steps = append(steps, u.programSteps()...)
	return append(steps,
		u.prepareKernel(),
		u.unlessSaved(u.importImages("images-boot", "Import the images the node boots with", u.Images.Boot)),
		u.unlessSaved(u.importImages("images-rest", "Import the images of the add-ons", u.Images.Rest)),
	)
}

// switchSteps returns the steps after which the node runs the new k0s.
func (u nodeUpgrade) switchSteps() []step.Step {
	return []step.Step{u.waitReadyBefore(u.upgradeK0s()), u.waitNodeReady()}
}

// kotsSteps returns the step that writes the kots CLI, on a controller of a cluster with a console.
func (u nodeUpgrade) kotsSteps() []step.Step {
	if u.KotsFile.Path == "" {
		return nil
	}
	return []step.Step{u.placeFile("kots-binary", "Put the kots CLI in place", u.KotsFile)}
}

// finishSteps returns the steps after which the node serves the new bundle.
func (u nodeUpgrade) finishSteps() []step.Step {
	steps := u.agentSteps()
	if !u.K0s.Worker && u.AgentFile.Path != "" {
		steps = append(steps, u.scheduleStep())
	}
	return append(steps, u.BundleCache.storeStep(u.Host))
}

// snapshot returns the snapshot of this upgrade; ok is false if there is none yet.
func (u nodeUpgrade) snapshot() (s Snapshot, ok bool, err error) {
	s, ok, err = readSnapshot(u.Host, u.dir)
	return s, ok && s.From == u.From && s.To == u.To, err
}

// isSaved reports whether the data of the cluster is saved: the steps before that are done.
func (u nodeUpgrade) isSaved() (bool, error) {
	s, ok, err := u.snapshot()
	return ok && s.Data != nil, err
}

// unlessSaved returns s as a step that is done once the data of the cluster is saved: k0s may be stopped then.
func (u nodeUpgrade) unlessSaved(s step.Step) step.Step {
	check := s.Check
	s.Check = func(ctx context.Context) (step.State, error) {
		if saved, err := u.isSaved(); err != nil || saved && u.changes() {
			return step.Done(), err
		}
		return check(ctx)
	}
	return s
}

// records returns the record of the cluster's last upgrade.
func (u nodeUpgrade) records(ctx context.Context) (UpgradeRecords, error) {
	return u.upgradeRecords(ctx, u.Records)
}

// upgradeRecords opens the record of the cluster's last upgrade.
func (c Cluster) upgradeRecords(ctx context.Context, open Records) (UpgradeRecords, error) {
	if open != nil {
		return open(ctx)
	}
	return c.kubeClient(ctx)
}

// upgradeObject is the object in which the cluster records its last upgrade, for plans.
const upgradeObject = "ConfigMap plinth-upgrade"

// lockCluster returns the step that records the upgrade in the cluster, so that a second one is refused.
func (u nodeUpgrade) lockCluster() step.Step {
	mine := func(r kube.UpgradeRecord) bool { return r.Active() && r.To == u.To && r.Coordinator == u.NodeName }
	return step.Step{ID: "upgrade-lock", Title: "Record the upgrade in the cluster", Affects: []string{upgradeObject},
		Check: func(ctx context.Context) (step.State, error) {
			if _, taken, err := u.snapshot(); err != nil || taken && !u.TakeOver || !u.changes() { // a killed run has it already
				return step.Done(), err
			}
			records, err := u.records(ctx)
			if err != nil {
				return step.Needed(err.Error()), ctx.Err()
			}
			r, err := records.UpgradeRecord(ctx)
			if err != nil {
				return step.Needed(err.Error()), ctx.Err()
			}
			if mine(r) {
				return step.Done(), nil
			}
			return step.Needed("the cluster does not know of this upgrade"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			records, err := u.records(ctx)
			if err != nil {
				return err
			}
			if u.TakeOver && !u.Others.isEmpty() {
				if err := u.Others.Agents.AdoptCoordinator(ctx, u.NodeName); err != nil {
					return err
				}
			}
			return records.UpdateUpgradeRecord(ctx, func(r *kube.UpgradeRecord) error {
				if r.Active() && u.TakeOver && r.To == u.To {
					r.Coordinator = u.NodeName
					return nil
				}
				if r.Active() && !mine(*r) {
					return problem.Newf(problem.ExitLocked, "record the upgrade in the cluster", "wait until it has ended; nothing was changed", "%s is not finished", r)
				}
				*r = kube.UpgradeRecord{From: u.From, To: u.To, Cluster: u.Name, Phase: kube.UpgradeStarted, Coordinator: u.NodeName, StartedAt: u.Now().UTC()}
				r.SkipNodes(u.Others.Skipped, u.Now())
				return nil
			})
		},
	}
}

// setPhase records the phase of the upgrade in the cluster. The upgrade continues, so that an earlier reason why it has
// stopped is removed.
func (u nodeUpgrade) setPhase(ctx context.Context, phase kube.UpgradePhase) error {
	records, err := u.records(ctx)
	if err != nil {
		return err
	}
	return records.UpdateUpgradeRecord(ctx, func(r *kube.UpgradeRecord) error {
		r.Phase, r.Why = phase, ""
		return nil
	})
}

// upgradeK0s returns the step that writes the program, the configuration and the unit of k0s and restarts it.
// They are one step, because a k0s that is started with one of them alone may not run. Pods keep running.
func (u nodeUpgrade) upgradeK0s() step.Step {
	needed := func(ctx context.Context) (string, error) {
		for _, check := range []func() (string, error){
			func() (string, error) { return u.K0sFile.Check(ctx, u.Host) },
			u.K0s.ConfigNeeded,
			u.K0s.RegisterNeeded,
			func() (string, error) { return u.K0s.StartNeeded(ctx) },
		} {
			if why, err := check(); err != nil || why != "" {
				return why, err
			}
		}
		return "", nil
	}
	served := false // since it was restarted: an API server can be unready for a moment when etcd moves its leader
	return step.Step{ID: UpgradeK0sID, Title: "Upgrade and restart k0s", Affects: append(u.K0s.ConfigPaths(), u.K0sFile.Path, u.K0s.UnitPath(), u.K0s.Unit()),
		Check: func(ctx context.Context) (step.State, error) {
			why, err := needed(ctx)
			if err != nil || why != "" {
				return stepState(why, err)
			}
			if why := u.apiReason(ctx); why != "" && !served {
				return step.Needed(why), nil
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			if why, err := u.K0sFile.Check(ctx, u.Host); err != nil || why != "" {
				if err := errors.Join(err, u.placeK0s().Apply(ctx, report)); err != nil {
					return err
				}
			}
			if why, err := u.K0s.ConfigNeeded(); err != nil || why != "" {
				if err := errors.Join(err, u.K0s.WriteConfig(ctx)); err != nil {
					return err
				}
			}
			if why, err := u.K0s.RegisterNeeded(); err != nil || why != "" {
				if err := errors.Join(err, u.K0s.Register(ctx)); err != nil {
					return err
				}
			}
			if why, err := u.K0s.StartNeeded(ctx); err != nil || why != "" {
				report("restarting k0s", 0, 0)
				if err := errors.Join(err, u.K0s.Start(ctx)); err != nil {
					return err
				}
			}
			err := u.waitK0sServes(ctx, u.Now(), report)
			served = err == nil
			return err
		},
	}
}

// removeAddOn returns the step that removes an add-on that the new bundle no longer has. Volumes are kept.
func (u nodeUpgrade) removeAddOn(a addons.AddOn) step.Step {
	trust := ""
	if a.Name == registryName && len(a.Values) > 0 {
		trust = registryWithoutClient(a).TrustDir()
	}
	installed := func(ctx context.Context) (bool, error) {
		client, err := u.kubeClient(ctx)
		if err != nil {
			return true, nil
		}
		_, err = helm.GetInstalled(ctx, client, a.Namespace, a.Release)
		if errors.Is(err, kube.ErrNotFound) {
			return false, nil
		}
		return true, nil // Apply returns the error
	}
	s := step.Step{ID: "remove-" + stepID(a), Title: "Remove " + a.Title, Affects: []string{"release " + a.Namespace + "/" + a.Release},
		Check: func(ctx context.Context) (step.State, error) {
			there, err := installed(ctx)
			if trust != "" && err == nil && !there {
				if _, err := u.Host.Lstat(trust); err == nil {
					there = true
				} else if !errors.Is(err, fs.ErrNotExist) {
					return step.State{}, err
				}
			}
			if err != nil || !there {
				return step.Done(), err
			}
			return step.Needed("the new bundle does not have it"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			client, err := u.kubeClient(ctx)
			if err != nil {
				return err
			}
			if a.Name == registryName {
				if err := client.Delete(ctx, kube.Object{APIVersion: "v1", Kind: "Secret", Namespace: "default", Name: "registry-creds"}); err != nil {
					return err
				}
			}
			if a.Name == prometheusName && u.Console.Namespace != "" {
				if err := u.forgetGraphs(ctx, a); err != nil {
					return err
				}
			}
			if err := helm.Uninstall(ctx, client, a.Namespace, a.Release, kube.Wait{Timeout: a.Wait(), Report: report, Diagnose: u.K0s.Diagnose}); err != nil || trust == "" {
				return err
			}
			return u.Host.RemoveAll(trust)
		},
	}
	if a.External {
		s.Title += ", but not its CRDs and volumes"
	}
	if a.Optional {
		return u.tolerateFailure(s, a)
	}
	return s
}

// compareHealth returns the step that waits until the cluster is as healthy as before the upgrade.
func (u nodeUpgrade) compareHealth() step.Step {
	return healthStep("health", u.Health, func() (json.RawMessage, error) {
		s, ok, err := u.snapshot()
		if err != nil || !ok || s.Data == nil {
			return nil, err
		}
		return s.Data.Health, nil
	})
}

// recordEnd returns the step that records the end of the upgrade in the cluster.
func (u nodeUpgrade) recordEnd() step.Step {
	return u.recordPhase(step.Step{ID: "upgrade-end", Title: "Record the end of the upgrade in the cluster"},
		"the upgrade is not finished", kube.UpgradeDone)
}

// recordPhase returns s as a step that records phase in the cluster, for the reason why. One of later is after it, too.
func (u nodeUpgrade) recordPhase(s step.Step, why string, phase kube.UpgradePhase, later ...kube.UpgradePhase) step.Step {
	s.Affects = []string{upgradeObject}
	s.Check = func(ctx context.Context) (step.State, error) {
		if !u.changes() {
			return step.Done(), nil
		}
		records, err := u.records(ctx)
		if err != nil {
			return step.Needed(err.Error()), ctx.Err()
		}
		r, err := records.UpgradeRecord(ctx)
		switch {
		case err != nil:
			return step.Needed(err.Error()), ctx.Err()
		case r.To == u.To && (r.Phase == phase || slices.Contains(later, r.Phase)):
			return step.Done(), nil
		}
		return step.Needed(why), nil
	}
	s.Apply = func(ctx context.Context, _ step.Report) error { return u.setPhase(ctx, phase) }
	return s
}
