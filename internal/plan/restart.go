package plan

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// stopSteps returns the steps that stop k0s and, with a second id, end the pods, unless isDone reports that what runs now
// was started after the change for which they end. k0s does not start at boot then.
func (c Cluster) stopSteps(isDone func() (bool, error), ids ...string) (steps []step.Step) {
	kinds := cleanup.StopKinds(cleanup.Finder{Host: c.Host, Scope: c.CleanupScope})
	for i, id := range ids {
		s := removeStep(kinds[i])
		s.ID = id
		check := s.Check
		s.Check = func(ctx context.Context) (step.State, error) {
			if done, err := isDone(); err != nil || done {
				return step.Done(), err
			}
			return check(ctx)
		}
		steps = append(steps, s)
	}
	return steps
}

// apiReason returns why the API server on this host is not ready, or "". A worker has none.
func (c Cluster) apiReason(ctx context.Context) string {
	if c.K0s.Worker {
		return ""
	}
	if c.APIAnswers != nil {
		return c.APIAnswers(ctx)
	}
	client, err := c.kubeClient(ctx)
	if err != nil {
		return err.Error()
	}
	if err := client.CheckAPIReady(ctx, net.JoinHostPort(k0s.Loopback, ports.APIText)); err != nil {
		return "the API server is not ready: " + err.Error()
	}
	return ""
}

// startK0sAndWait returns the step id that starts k0s with restored files or data, and waits until it serves.
func (c Cluster) startK0sAndWait(id string) step.Step {
	return step.Step{ID: id, Title: "Start k0s", Affects: []string{c.K0s.Unit()},
		Check: func(ctx context.Context) (step.State, error) {
			why, err := c.K0s.StartNeeded(ctx)
			if err == nil && why == "" {
				why = c.apiReason(ctx)
			}
			return stepState(why, err)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			if err := c.K0s.Start(ctx); err != nil {
				return err
			}
			return c.waitK0sServes(ctx, c.Now(), report)
		},
	}
}

// waitK0sServes waits until the API server is ready, and the kubelet has reported since the time since: until then the
// cluster has the state of this node from before the restart. It ends at once when k0s has ended: systemd would start it
// again only after two minutes, as often as it ends.
func (c Cluster) waitK0sServes(ctx context.Context, since time.Time, report step.Report) error {
	return wait.Until(ctx, wait.Options{What: "k0s to serve the cluster", Timeout: 4 * time.Minute, Diagnose: c.K0s.Diagnose, NextCommand: "sudo journalctl -u " + c.K0s.Unit(),
		OnReason: func(reason string) { report(reason, 0, 0) }},
		func(ctx context.Context) (bool, string, error) {
			why, err := c.K0s.DownReason(ctx)
			if err != nil {
				return false, "", err
			}
			if why != "" {
				return false, "", fmt.Errorf("k0s does not start: %s", c.K0s.Diagnose(ctx))
			}
			if why = c.apiReason(ctx); why == "" && c.APIAnswers == nil {
				why = c.kubeletReason(ctx, since)
			}
			return why == "", why, nil
		})
}

// kubeletReason returns why the cluster does not know the current state of this node, or "".
func (c Cluster) kubeletReason(ctx context.Context, since time.Time) string {
	client, err := c.kubeClient(ctx)
	if err != nil {
		return err.Error()
	}
	at, err := client.NodeHeartbeat(ctx, c.NodeName)
	switch {
	case err != nil:
		return err.Error()
	case at.Before(since):
		return "the kubelet of node " + c.NodeName + " has not reported since the restart"
	}
	return ""
}

// waitPodsStartedAfter returns the step id that waits until the cluster knows that its pods have ended and were started
// again since the file mark was written: until then it has their state of before, in which they were Ready. started is the
// id of the step that starts k0s.
func (c Cluster) waitPodsStartedAfter(id, started, mark string) step.Step {
	why := func(ctx context.Context) (string, error) {
		info, err := c.Host.Lstat(mark)
		if err != nil {
			return "", err
		}
		client, err := c.kubeClient(ctx)
		if err != nil {
			return "", err
		}
		return client.NotRestarted(ctx, info.ModTime())
	}
	return step.Step{ID: id, Title: "Wait for the pods to start again",
		Check: func(ctx context.Context) (step.State, error) {
			reason, err := why(ctx)
			if err != nil {
				return step.Unknown(started), ctx.Err()
			}
			return stepState(reason, nil)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			return wait.Until(ctx, wait.Options{What: "the pods to start again", Timeout: 5 * time.Minute, Interval: time.Second, Diagnose: c.diagnosePodStart,
				NextCommand: "sudo plinth kubectl get pods,events -A", OnReason: func(reason string) { report(reason, 0, 0) }},
				func(ctx context.Context) (bool, string, error) {
					reason, err := why(ctx)
					if err != nil {
						return false, err.Error(), nil
					}
					return reason == "", reason, nil
				})
		},
	}
}

// waitSystemImages returns the step that waits until k0s has given the system pods the images of its version, which it
// does some seconds after its start.
func (c Cluster) waitSystemImages() step.Step {
	why := func(ctx context.Context) (string, error) {
		client, err := c.kubeClient(ctx)
		if err != nil {
			return "", err
		}
		refs, err := c.systemImages()
		if err != nil || len(refs) == 0 {
			return "", err
		}
		return client.OldImage(ctx, systemNamespace, c.K0s.Settings.SystemPods(), refs)
	}
	return step.Step{ID: "system-images", Title: "Wait for k0s to update the system pods",
		Check: func(ctx context.Context) (step.State, error) {
			reason, err := why(ctx)
			if err != nil {
				return step.Unknown(UpgradeK0sID), ctx.Err()
			}
			return stepState(reason, nil)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			return wait.Until(ctx, wait.Options{What: "k0s to update the system pods", Timeout: 5 * time.Minute, Diagnose: c.diagnosePodStart, Interval: time.Second,
				NextCommand: "sudo plinth kubectl get pods,events -n " + systemNamespace, OnReason: func(reason string) { report(reason, 0, 0) }},
				func(ctx context.Context) (bool, string, error) {
					reason, err := why(ctx)
					if err == nil && reason != "" && len(c.SkipNodes) > 0 {
						err = c.replaceOldSystemPod(ctx)
					}
					if err != nil {
						return false, err.Error(), nil
					}
					return reason == "", reason, nil
				})
		},
	}
}

// replaceOldSystemPod deletes a system pod that its DaemonSet does not replace while a node is away.
func (c Cluster) replaceOldSystemPod(ctx context.Context) error {
	client, err := c.kubeClient(ctx)
	if err != nil {
		return err
	}
	refs, err := c.systemImages()
	if err != nil {
		return err
	}
	return client.ReplaceOldPod(ctx, systemNamespace, c.K0s.Settings.SystemPods(), refs)
}

// systemImages returns the references of the images that the system pods run; nil if they are not known.
func (c Cluster) systemImages() (refs []string, err error) {
	for _, i := range c.Images.Boot {
		refs = append(refs, i.Ref)
	}
	if len(refs) > 0 {
		return refs, nil
	}
	refs, err = k0s.Images(c.K0s.Settings)
	if err != nil { // of a version that this version of Plinth does not know
		return nil, nil
	}
	return refs, nil
}
