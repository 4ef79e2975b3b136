package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

// PodsReason returns the reason why the namespace's pods are not all up, as
// WaitPods defines it, or "" if they are.
func (c *Client) PodsReason(ctx context.Context, namespace string, expect ...string) (string, error) {
	pods, err := c.awaitedPods(ctx, namespace)
	if err != nil {
		return "", err
	}
	return podsReason(pods, expect), nil
}

// StartingPod returns a pod with a container that has not started yet and the reason to
// wait for it, or "" and "" if all pods have started. A pod must exist for each name
// prefix in expect: while one is missing, pod is "".
func (c *Client) StartingPod(ctx context.Context, namespace string, expect ...string) (pod, reason string, err error) {
	pods, err := c.awaitedPods(ctx, namespace)
	if err != nil {
		return "", "", err
	}
	pod, reason = startingPod(pods, expect)
	return pod, reason, nil
}

// startingPod is StartingPod for the pods of a namespace.
func startingPod(pods []corev1.Pod, expect []string) (pod, reason string) {
	for i := range pods {
		p := &pods[i]
		started := len(p.Status.ContainerStatuses) > 0
		for _, s := range p.Status.ContainerStatuses {
			started = started && s.State.Waiting == nil
		}
		if !started && !isIgnoredPod(p) {
			return p.Name, "pod " + p.Name + " has not started" + waitingDetail(p)
		}
	}
	return "", missingPod(pods, expect)
}

// waitingDetail returns ": " and why kubelet cannot start a container of the pod, or "" if it has not failed yet.
func waitingDetail(p *corev1.Pod) string {
	cs := blockingContainer(p)
	if cs == nil || cs.State.Waiting == nil || slices.Contains([]string{"", "ContainerCreating", "PodInitializing"}, cs.State.Waiting.Reason) {
		return ""
	}
	return ": " + containerReason(cs)
}

// NotRestarted returns the first pod, of all namespaces, with a container that was started before since, as the reason
// to wait; "" if all were started later. Pods that have ended are left out.
func (c *Client) NotRestarted(ctx context.Context, since time.Time) (string, error) {
	pods, err := c.awaitedPods(ctx, "")
	if err != nil {
		return "", err
	}
	for i := range pods {
		p := &pods[i]
		if isIgnoredPod(p) {
			continue
		}
		for _, s := range p.Status.ContainerStatuses {
			if s.State.Running != nil && s.State.Running.StartedAt.Time.Before(since.Truncate(time.Second)) {
				return "pod " + p.Namespace + "/" + p.Name + " has not been started again", nil
			}
		}
	}
	return "", nil
}

// CheckAPIReady returns an error unless the API server at address
// ("10.0.0.1:6443") is ready. It connects to that server directly, not through
// a load balancer.
func (c *Client) CheckAPIReady(ctx context.Context, address string) error {
	conf := rest.CopyConfig(c.config)
	conf.Host = "https://" + address
	conf.NextProtos = []string{"http/1.1"} // a separate connection, closed after the response
	client, err := rest.HTTPClientFor(conf)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, conf.Host+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return errors.Unwrap(err) // without the URL, which the caller adds
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it returned %s", resp.Status)
	}
	return nil
}
