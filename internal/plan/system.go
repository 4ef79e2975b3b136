package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// waitSystemPodsStarted returns the step that waits until the system pods run, Ready or not, because
// importing images at the same time would delay their start.
func (c Cluster) waitSystemPodsStarted() step.Step {
	why := func(ctx context.Context) (string, error) {
		client, err := c.kubeClient(ctx)
		if err != nil {
			return "", err
		}
		_, reason, err := client.StartingPod(ctx, systemNamespace, c.K0s.Settings.SystemPods()...)
		return reason, err
	}
	return step.Step{ID: "system-pods-start", Title: "Wait for the system pods to start",
		Check: func(ctx context.Context) (step.State, error) {
			if reason, err := why(ctx); err == nil {
				return stepState(reason, nil)
			}
			return step.Unknown("k0s-start"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			nudge := podReplacer{now: c.Now}
			return wait.Until(ctx, wait.Options{What: "the system pods to start", Timeout: 5 * time.Minute, Diagnose: c.diagnosePodStart,
				NextCommand: "sudo plinth kubectl get pods,events -n " + systemNamespace, OnReason: func(reason string) { report(reason, 0, 0) }},
				func(ctx context.Context) (bool, string, error) {
					client, err := c.kubeClient(ctx)
					if err != nil {
						return false, err.Error(), nil
					}
					pod, reason, err := client.StartingPod(ctx, systemNamespace, c.K0s.Settings.SystemPods()...)
					if err != nil {
						return false, err.Error(), nil
					}
					if nudge.shouldReplace(pod) {
						err = client.Delete(ctx, kube.Object{APIVersion: "v1", Kind: "Pod", Namespace: systemNamespace, Name: pod})
					}
					return reason == "", reason, err
				})
		},
	}
}

// diagnosePodStart returns the reason why a system pod does not start, or the state of k0s if the API server does not answer.
func (c Cluster) diagnosePodStart(ctx context.Context) string {
	if client, err := c.kubeClient(ctx); err == nil {
		return client.Diagnose(ctx, systemNamespace, "")
	}
	return c.K0s.Diagnose(ctx)
}

// podReplacer decides which pods to replace. If kubelet tries to create the sandbox of a pod in the seconds
// before the network of the node is complete, it tries again only after a back-off (14 s measured). A new pod
// starts at once. One pod of a workload is replaced, once: if its successor does not start either, there is another reason.
type podReplacer struct {
	now      func() time.Time
	pod      string
	since    time.Time
	replaced []string // workloads: names of pods without their random ends
}

// podStartGrace is how long a pod may be the next to start before it is replaced.
const podStartGrace = 3 * time.Second

// shouldReplace reports whether to replace pod, the next pod that has not started.
func (n *podReplacer) shouldReplace(pod string) bool {
	if pod != n.pod {
		n.pod, n.since = pod, n.now()
	}
	workload := pod[:max(0, strings.LastIndexByte(pod, '-'))]
	if pod == "" || slices.Contains(n.replaced, workload) || n.now().Sub(n.since) < podStartGrace {
		return false
	}
	// These pods set up the network; replacing them would only restart that.
	n.replaced = append(n.replaced, workload)
	return !strings.HasPrefix(pod, "kube-router") && !strings.HasPrefix(pod, "kube-proxy")
}

// systemNamespace is the namespace of k0s's own pods.
const systemNamespace = "kube-system"

// waitSystemPodsReady returns the step that waits until all system pods are Ready.
func (c Cluster) waitSystemPodsReady() step.Step {
	return step.Step{ID: "system-pods", Title: "Wait for the system pods",
		Check: func(ctx context.Context) (step.State, error) {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return step.Unknown("k0s-start"), nil
			}
			reason, err := client.PodsReason(ctx, systemNamespace, c.K0s.Settings.SystemPods()...)
			if err != nil {
				return step.Needed(err.Error()), ctx.Err()
			}
			return stepState(reason, nil)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			client, err := c.kubeClient(ctx)
			if err != nil {
				return err
			}
			return client.WaitPods(ctx, kube.Wait{Timeout: 6 * time.Minute, Report: report, Diagnose: c.K0s.Diagnose}, systemNamespace, c.K0s.Settings.SystemPods()...)
		},
	}
}

// namingSystemPods returns s as a step that names the system pod that is not Ready when it fails: CoreDNS, without which
// no pod finds another, may be the reason.
func (c Cluster) namingSystemPods(s step.Step) step.Step {
	apply := s.Apply
	s.Apply = func(ctx context.Context, report step.Report) error {
		err := apply(ctx, report)
		if err == nil || ctx.Err() != nil {
			return err
		}
		client, clientErr := c.kubeClient(ctx)
		if clientErr != nil {
			return err
		}
		if cause := client.Diagnose(ctx, systemNamespace, ""); cause != "" {
			return fmt.Errorf("%w; %s", err, cause)
		}
		return err
	}
	return s
}
