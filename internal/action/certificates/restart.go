package certificates

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// Limits of a restart.
const (
	inspectTimeout = 10 * time.Second // of the cluster, before the restart
	readyTimeout   = 5 * time.Minute
	lockName       = "plinth-k0s-restart"
	lockTTL        = 15 * time.Minute // longer than a restart, with all its waits
)

// unit returns the unit of k0s, which has certificates on controllers only.
func (r *renewal) unit() string { return k0s.ControllerUnit }

// lock returns the lock in the cluster that only one controller at a time has.
func (r *renewal) lock() kube.Lock {
	return kube.Lock{Name: lockName, Node: r.receipt.Node, Purpose: "restart of k0s, which renews its certificates", TTL: lockTTL}
}

// kubeletUrgency is the least share of life that kubelet's certificates count with: after their end, the API
// servers still answer. Controllers that are not Ready for the same reason must not wait for each other.
const kubeletUrgency = 1.0 / 20

// left returns the share of life that the certificates which need the restart have left.
func (r *renewal) left() float64 {
	return min(leastLeft(r.k0s), max(leastLeft(r.kubelet), kubeletUrgency))
}

// refuseRestart returns a problem if k0s must not be restarted now. Nothing was changed.
func (r *renewal) refuseRestart(ctx context.Context, env *action.Env) *problem.Problem {
	const hint = "nothing of k0s was changed; `plinth node list` shows the state of the cluster"
	if last, ok := env.Journal().LastUnfinished(); ok {
		return problem.New(problem.ExitUsage, "restart k0s", errors.New(last.DescribeUnfinished()), "run the same command again first; nothing of k0s was changed")
	}
	if why := r.inspectRestart(ctx, env); why != "" {
		return problem.New(problem.ExitUsage, "restart k0s", errors.New(why), hint)
	}
	return nil
}

// inspectRestart reads the state of the cluster and returns why k0s must not be restarted now, or "".
func (r *renewal) inspectRestart(ctx context.Context, env *action.Env) string {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	if why := r.upgradeUnderWay(ctx, env); why != "" {
		return why
	}
	view, err := r.inspectCluster(ctx, env.Host)
	if err != nil {
		err = errors.New(problem.ExplainConnection(err))
	}
	return checkRestart(view, err, r.receipt.Node, r.receipt.Address, r.left())
}

// upgradeUnderWay returns the upgrade of the cluster that is not finished, or "": it restarts one controller after
// another itself. Certificates that would soon end do not wait for it.
func (r *renewal) upgradeUnderWay(ctx context.Context, env *action.Env) string {
	client, err := env.KubeClient()
	if err != nil || urgencyOf(r.left()).requires == requireNothing {
		return ""
	}
	if record, err := client.UpgradeRecord(ctx); err == nil && record.Active() {
		return record.String() + " is not finished"
	}
	return ""
}

// restartK0s restarts k0s on this host, and waits until it is healthy, while it holds the lock in the cluster.
// It checks the cluster again once it has the lock.
func (r *renewal) restartK0s(ctx context.Context, env *action.Env, report step.Report) error {
	release, err := r.acquireLock(ctx, env)
	if err != nil {
		return err
	}
	defer release()
	if why := r.inspectRestart(ctx, env); why != "" {
		return errors.New("k0s was not restarted: " + why)
	}
	since := env.Now().Truncate(time.Second)
	if err := env.Host.RestartUnit(ctx, r.unit()); err != nil {
		return err
	}
	o := wait.Options{What: "k0s to be ready after its restart", Timeout: readyTimeout, NextCommand: "sudo journalctl -u " + r.unit(),
		OnReason: func(reason string) { report(reason, 0, 0) }, Diagnose: k0s.Service{Host: env.Host}.Diagnose}
	return wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		reason := r.notReady(ctx, env, since)
		return reason == "", reason, nil
	})
}

// acquireLock acquires the lock in the cluster. release releases it, also after the restart, by a new connection.
func (r *renewal) acquireLock(ctx context.Context, env *action.Env) (release func(), err error) {
	client, err := env.KubeClient()
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
		defer cancel()
		err = client.AcquireLock(ctx, r.lock(), env.Now())
	}
	var locked *kube.LockedError
	switch {
	case errors.As(err, &locked):
		return nil, fmt.Errorf("k0s was not restarted, because only one controller at a time may be: %w", err)
	case err != nil && urgencyOf(r.left()).requires == requireNothing:
		return func() {}, nil // without an API server there is no lock, and nothing to protect
	case err != nil:
		return nil, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), inspectTimeout)
		defer cancel()
		client, err := env.KubeClient() // k0s has written new credentials
		if err == nil {
			err = client.ReleaseLock(ctx, r.lock())
		}
		if err != nil {
			env.Note("warning: the lock " + lockName + " ends by itself in " + lockTTL.String() + "; it cannot be released: " + err.Error())
		}
	}, nil
}

// notReady returns why this controller is not healthy after the restart of k0s at the time since, or "".
func (r *renewal) notReady(ctx context.Context, env *action.Env, since time.Time) string {
	if done, err := r.hasRestarted(ctx, env); err != nil || !done {
		return "k0s has not renewed its certificates yet"
	}
	view, err := r.inspectCluster(ctx, env.Host)
	if err != nil {
		return "the API server does not answer: " + problem.ExplainConnection(err)
	}
	for _, e := range view.API {
		if e.Address == r.receipt.Address+":"+ports.APIText && !e.Ready {
			return "the API server on this host is not ready: " + e.Reason
		}
	}
	if why := checkEtcd(view); why != "" {
		return why
	}
	for _, n := range view.Nodes {
		switch {
		case n.Name != r.receipt.Node:
		case n.Reported.Before(since):
			return "kubelet has not reported since the restart"
		case !n.Ready:
			return "node " + n.Name + " is not Ready: " + n.Reason
		}
	}
	return ""
}
