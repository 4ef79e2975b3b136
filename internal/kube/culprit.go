package kube

import (
	"bytes"
	"cmp"
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// maxLogBytes bounds what is read of a pod's log.
const maxLogBytes = 256 << 10

// Culprit names the pod that keeps a namespace (or what selector matches of
// it) from being Ready, with the last warning about it and its last log line.
func (c *Client) Culprit(ctx context.Context, namespace, selector string) string {
	list, err := c.core.Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return ""
	}
	pod := worst(list.Items)
	if pod == nil {
		return ""
	}
	parts := []string{"pod " + namespace + "/" + podReason(pod)}
	// A pod that waits for its volume has no event of its own: its claim has.
	if e := cmp.Or(c.lastWarning(ctx, namespace, pod.Name), c.lastWarning(ctx, namespace, "")); e != "" {
		parts = append(parts, "last event: "+e)
	}
	if cs := blocking(pod); cs != nil {
		if line := c.lastLogLine(ctx, namespace, pod.Name, cs); line != "" {
			parts = append(parts, "last log line: "+line)
		}
	}
	return strings.Join(parts, "; ")
}

// worst picks, of the pods that are not up, the one that restarted most:
// what crashes is a likelier cause than what waits.
func worst(pods []corev1.Pod) *corev1.Pod {
	var found *corev1.Pod
	most := int32(-1)
	for i := range pods {
		p := &pods[i]
		if ignored(p) || podReason(p) == "" {
			continue
		}
		restarts := int32(0)
		if cs := blocking(p); cs != nil {
			restarts = cs.RestartCount
		}
		if restarts > most {
			found, most = p, restarts
		}
	}
	return found
}

// lastWarning is the newest warning about one object, or about any.
func (c *Client) lastWarning(ctx context.Context, namespace, name string) string {
	want := fields.Set{"type": corev1.EventTypeWarning}
	if name != "" {
		want["involvedObject.name"] = name
	}
	list, err := c.core.Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: want.String()})
	if err != nil || len(list.Items) == 0 {
		return ""
	}
	last := &list.Items[0]
	for i := range list.Items {
		if e := &list.Items[i]; when(e).After(when(last).Time) {
			last = e
		}
	}
	return last.Reason + ": " + oneLine(last.Message)
}

func when(e *corev1.Event) metav1.Time {
	if !e.LastTimestamp.IsZero() {
		return e.LastTimestamp
	}
	return metav1.Time{Time: e.EventTime.Time}
}

func (c *Client) lastLogLine(ctx context.Context, namespace, pod string, cs *corev1.ContainerStatus) string {
	if cs.State.Running == nil && cs.LastTerminationState.Terminated == nil && cs.State.Terminated == nil {
		return ""
	}
	lines, err := c.PodLog(ctx, namespace, pod, LogOptions{Container: cs.Name, Lines: 1, Previous: cs.State.Waiting != nil})
	if err != nil || len(lines) == 0 {
		return ""
	}
	return oneLine(lines[len(lines)-1])
}

// LogOptions says which part of a pod's log is wanted.
type LogOptions struct {
	Container string       // empty for the pod's only or default container
	Lines     int64        // the last so many; 0 for all, up to 256 KiB
	Previous  bool         // the run before the last restart
	Since     *metav1.Time // not older than this; nil for no limit
}

// PodLog returns lines of a pod's log, oldest first.
func (c *Client) PodLog(ctx context.Context, namespace, pod string, o LogOptions) ([]string, error) {
	most := int64(maxLogBytes)
	opts := &corev1.PodLogOptions{Container: o.Container, Previous: o.Previous, SinceTime: o.Since, LimitBytes: &most}
	if o.Lines > 0 {
		opts.TailLines = &o.Lines
	}
	b, err := c.core.Pods(namespace).GetLogs(pod, opts).DoRaw(ctx)
	if err != nil || len(bytes.TrimSpace(b)) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimRight(string(b), "\n"), "\n"), nil
}

// Pods lists the names of a namespace's pods that carry the labels in
// selector ("app=kotsadm") and are not on their way out.
func (c *Client) Pods(ctx context.Context, namespace, selector string) ([]string, error) {
	list, err := c.core.Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range list.Items {
		if !ignored(&list.Items[i]) {
			names = append(names, list.Items[i].Name)
		}
	}
	return names, nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
