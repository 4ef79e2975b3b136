package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WaitPods waits until every pod of the namespace is Ready or has succeeded.
// Each name in expect ("coredns") must be the prefix of the name of at least
// one pod, so that a namespace with only some of its pods does not count as
// complete.
func (c *Client) WaitPods(ctx context.Context, w Wait, namespace string, expect ...string) error {
	what := "all pods of namespace " + namespace + " to be Ready"
	return w.waitUntil(ctx, what, "sudo plinth kubectl get pods,events -n "+namespace, func(ctx context.Context) (bool, string, error) {
		reason, err := c.PodsReason(ctx, namespace, expect...)
		if err != nil {
			return retryReason(err)
		}
		return reason == "", reason, nil
	}, func(ctx context.Context) string { return c.Diagnose(ctx, namespace, "") })
}

// podsReason returns the reason why the pods are not all up, or "" if they are.
func podsReason(pods []corev1.Pod, expect []string) string {
	if reason := missingPod(pods, expect); reason != "" {
		return reason
	}
	var waiting []string
	alive := 0
	for i := range pods {
		if isIgnoredPod(&pods[i]) {
			continue
		}
		alive++
		if r := podReason(&pods[i]); r != "" {
			waiting = append(waiting, r)
		}
	}
	switch {
	case alive == 0:
		return "no pods yet"
	case len(waiting) == 0:
		return rollingReason(pods, expect)
	}
	return fmt.Sprintf("%d of %d pods Ready; pod %s", alive-len(waiting), alive, waiting[0])
}

// rollingReason returns which DaemonSet, whose pods have a name prefix in expect, still replaces its pods, in words, or
// "". Between two pods of a rolling update all of them are Ready.
func rollingReason(pods []corev1.Pod, expect []string) string {
	revisions := map[string]string{}
	for i := range pods {
		p := &pods[i]
		owner, revision := metav1.GetControllerOf(p), p.Labels["controller-revision-hash"]
		if owner == nil || owner.Kind != "DaemonSet" || isIgnoredPod(p) ||
			!slices.ContainsFunc(expect, func(prefix string) bool { return strings.HasPrefix(p.Name, prefix) }) {
			continue
		}
		if other, ok := revisions[owner.Name]; ok && other != revision {
			return fmt.Sprintf("DaemonSet %s replaces its pods", owner.Name)
		}
		revisions[owner.Name] = revision
	}
	return ""
}

// missingPod returns which of the name prefixes in expect no pod has yet, in words, or "".
func missingPod(pods []corev1.Pod, expect []string) string {
	for _, name := range expect {
		if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return strings.HasPrefix(p.Name, name) && !isIgnoredPod(&p) }) {
			return fmt.Sprintf("no pod of %s yet", name)
		}
	}
	return ""
}

// isIgnoredPod reports whether a pod is ignored: one that is terminating, or an
// evicted one, which stays listed although its owner has replaced it.
func isIgnoredPod(p *corev1.Pod) bool {
	return p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed && p.Status.Reason == "Evicted"
}

// podReason returns "NAME: why it is not Ready", or "" for a pod that is up.
func podReason(p *corev1.Pod) string {
	if p.Status.Phase == corev1.PodSucceeded {
		return ""
	}
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue {
			return ""
		}
	}
	if cs := blockingContainer(p); cs != nil {
		return p.Name + ": " + containerReason(cs)
	}
	if i := slices.IndexFunc(p.Status.Conditions, isUnschedulable); i >= 0 {
		return p.Name + ": not scheduled: " + p.Status.Conditions[i].Message
	}
	return p.Name + ": " + cmp.Or(p.Status.Reason, string(p.Status.Phase))
}

// blockingContainer returns the first container that keeps the pod from being
// Ready, or nil.
func blockingContainer(p *corev1.Pod) *corev1.ContainerStatus {
	for i := range p.Status.InitContainerStatuses {
		cs := &p.Status.InitContainerStatuses[i]
		if t := cs.State.Terminated; t == nil || t.ExitCode != 0 {
			return cs
		}
	}
	for i := range p.Status.ContainerStatuses {
		if cs := &p.Status.ContainerStatuses[i]; !cs.Ready {
			return cs
		}
	}
	return nil
}

func containerReason(cs *corev1.ContainerStatus) string {
	switch {
	case cs.State.Waiting != nil:
		return strings.TrimSuffix(cs.Name+" "+cs.State.Waiting.Reason+": "+cs.State.Waiting.Message, ": ")
	case cs.State.Terminated != nil:
		t := cs.State.Terminated
		return fmt.Sprintf("%s exited with code %d (%s)", cs.Name, t.ExitCode, t.Reason)
	case cs.RestartCount > 0:
		return fmt.Sprintf("%s is running but not Ready, %d restarts", cs.Name, cs.RestartCount)
	}
	return cs.Name + " is running but not Ready"
}
