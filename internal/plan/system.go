package plan

import (
	"context"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// systemPodsStart waits until the system pods run, Ready or not: an import
// beside their start would delay them.
func (c Cluster) systemPodsStart() step.Step {
	why := func(ctx context.Context) (string, error) {
		client, err := c.kube(ctx)
		if err != nil {
			return "", err
		}
		pod, err := client.Starting(ctx, systemNamespace)
		if pod != "" {
			pod = "pod " + pod + " has not started"
		}
		return pod, err
	}
	return step.Step{ID: "system-pods-start", Title: "Wait for the system pods to start",
		Check: func(ctx context.Context) (step.State, error) {
			if reason, err := why(ctx); err == nil {
				return look(reason, nil)
			}
			return step.Unknown("k0s-start"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			nudge := nudger{now: c.Now}
			return wait.Until(ctx, wait.Options{What: "the system pods to start", Timeout: 5 * time.Minute, Culprit: c.startCulprit,
				Next: "sudo plinth kubectl get pods,events -n " + systemNamespace, OnReason: func(reason string) { report(reason, 0, 0) }},
				func(ctx context.Context) (bool, string, error) {
					client, err := c.kube(ctx)
					if err != nil {
						return false, err.Error(), nil
					}
					pod, err := client.Starting(ctx, systemNamespace)
					if err != nil {
						return false, err.Error(), nil
					}
					if nudge.late(pod) {
						err = client.Delete(ctx, kube.Object{APIVersion: "v1", Kind: "Pod", Namespace: systemNamespace, Name: pod})
					}
					return pod == "", "pod " + pod + " has not started", err
				})
		},
	}
}

// startCulprit is the system pod that does not start, or k0s when nobody tells.
func (c Cluster) startCulprit(ctx context.Context) string {
	if client, err := c.kube(ctx); err == nil {
		return client.Culprit(ctx, systemNamespace, "")
	}
	return c.K0s.Culprit(ctx)
}

// nudger picks the pods that are worth a fresh start. A pod whose sandbox was
// tried in the seconds before the network of the node was complete is tried
// again by kubelet only after a back-off, 14 s as measured; a new pod in its
// place starts at once. Each is picked once.
type nudger struct {
	now    func() time.Time
	pod    string
	since  time.Time
	nudged bool
}

// patience is how long a pod may be the next to start before it is replaced.
const patience = 3 * time.Second

// late reports whether pod, the next that has not started, is to be replaced.
func (n *nudger) late(pod string) bool {
	if pod != n.pod {
		n.pod, n.since, n.nudged = pod, n.now(), false
	}
	if pod == "" || n.nudged || n.now().Sub(n.since) < patience {
		return false
	}
	// The network itself comes from these: replacing them would begin anew.
	n.nudged = true
	return !strings.HasPrefix(pod, "kube-router") && !strings.HasPrefix(pod, "kube-proxy")
}

// systemNamespace is where k0s's own pods run.
const systemNamespace = "kube-system"

func (c Cluster) systemPods() step.Step {
	return step.Step{ID: "system-pods", Title: "Wait for the system pods",
		Check: func(ctx context.Context) (step.State, error) {
			client, err := c.kube(ctx)
			if err != nil {
				return step.Unknown("k0s-start"), nil
			}
			reason, err := client.PodsReason(ctx, systemNamespace, systemExpected()...)
			if err != nil {
				return step.Needed(err.Error()), ctx.Err()
			}
			return look(reason, nil)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			client, err := c.kube(ctx)
			if err != nil {
				return err
			}
			return client.WaitPods(ctx, kube.Wait{Timeout: 6 * time.Minute, Report: report, Culprit: c.K0s.Culprit}, systemNamespace, systemExpected()...)
		},
	}
}

// systemExpected is what k0s runs in kube-system: pods with these beginnings.
func systemExpected() []string {
	return []string{"coredns", "kube-proxy", "kube-router", "metrics-server"}
}
