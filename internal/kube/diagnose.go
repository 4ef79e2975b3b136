package kube

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// maxLogBytes is the maximum number of bytes that are read from a pod's log.
const maxLogBytes = 256 << 10

// Diagnose returns the pod that is not Ready in a namespace (or of those that
// selector matches), with the last warning about it and its last log line. It
// returns "" if all pods are up.
func (c *Client) Diagnose(ctx context.Context, namespace, selector string) string {
	list, err := c.core.Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return ""
	}
	pod := findFailingPod(list.Items)
	if pod == nil {
		return ""
	}
	parts := []string{"pod " + namespace + "/" + podReason(pod)}
	// A pod that waits for its volume has no event itself: its claim has one.
	if e := cmp.Or(c.lastWarning(ctx, namespace, pod.Name), c.lastWarning(ctx, namespace, "")); e != "" {
		parts = append(parts, "last event: "+e)
	}
	if cs := blockingContainer(pod); cs != nil {
		if line := c.lastLogLine(ctx, namespace, pod.Name, cs); line != "" {
			parts = append(parts, "last log line: "+line)
		}
	}
	return strings.Join(parts, "; ")
}

// findFailingPod returns the pod that is not up and restarted most often,
// because a crashing pod is a more likely cause than a waiting one. It returns
// nil if all pods are up.
func findFailingPod(pods []corev1.Pod) *corev1.Pod {
	var found *corev1.Pod
	most := int32(-1)
	for i := range pods {
		p := &pods[i]
		if isIgnoredPod(p) || podReason(p) == "" {
			continue
		}
		restarts := int32(0)
		if cs := blockingContainer(p); cs != nil {
			restarts = cs.RestartCount
		}
		if restarts > most {
			found, most = p, restarts
		}
	}
	return found
}

// lastWarning returns the newest warning about one object, or about any object
// if name is empty.
func (c *Client) lastWarning(ctx context.Context, namespace, name string) string {
	want := fields.Set{"type": corev1.EventTypeWarning}
	if name != "" {
		want["involvedObject.name"] = name
	}
	list, err := c.core.Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: want.String()})
	if err != nil || len(list.Items) == 0 {
		return ""
	}
	last := slices.MaxFunc(list.Items, func(a, b corev1.Event) int { return eventTime(a).Compare(eventTime(b)) })
	return last.Reason + ": " + oneLine(last.Message)
}

func eventTime(e corev1.Event) time.Time {
	if e.LastTimestamp.IsZero() {
		return e.EventTime.Time
	}
	return e.LastTimestamp.Time
}

func (c *Client) lastLogLine(ctx context.Context, namespace, pod string, cs *corev1.ContainerStatus) string {
	lines, err := c.PodLog(ctx, namespace, pod, LogOptions{Container: cs.Name, Lines: 1, Previous: cs.State.Waiting != nil})
	if err != nil || len(lines) == 0 {
		return ""
	}
	return oneLine(lines[len(lines)-1])
}

// LogOptions select a part of a pod's log.
type LogOptions struct {
	Container string    // empty for the pod's only or default container
	Lines     int64     // number of lines at the end; 0 for all
	MaxBytes  int64     // 0 for 256 KiB
	Previous  bool      // log of the container before its last restart
	Since     time.Time // only lines that were logged later; zero for no limit
}

// PodLog returns lines of a pod's log, oldest first, without NUL bytes: some programs write them.
func (c *Client) PodLog(ctx context.Context, namespace, pod string, o LogOptions) ([]string, error) {
	limit := cmp.Or(o.MaxBytes, int64(maxLogBytes))
	opts := &corev1.PodLogOptions{Container: o.Container, Previous: o.Previous, LimitBytes: &limit, Timestamps: true}
	if o.Lines > 0 {
		opts.TailLines = &o.Lines
	}
	if !o.Since.IsZero() {
		opts.SinceTime = &metav1.Time{Time: o.Since} // with a precision of one second
	}
	b, err := c.core.Pods(namespace).GetLogs(pod, opts).DoRaw(ctx)
	var lines []string
	for line := range strings.Lines(string(b)) {
		stamp, text, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		if t, err := time.Parse(time.RFC3339Nano, stamp); err == nil && t.After(o.Since) {
			lines = append(lines, strings.ReplaceAll(text, "\x00", ""))
		}
	}
	return lines, err
}

// Pods returns the names of a namespace's pods with the labels in selector
// ("app=kotsadm"), without those that are terminating or evicted.
func (c *Client) Pods(ctx context.Context, namespace, selector string) ([]string, error) {
	list, err := c.core.Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range list.Items {
		if !isIgnoredPod(&list.Items[i]) {
			names = append(names, list.Items[i].Name)
		}
	}
	return names, nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
