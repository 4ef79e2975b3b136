package diagnosis

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// startTime is how long a pod may take to start before it counts as failing.
const startTime = time.Minute

// failingPods returns the pods that should be Ready and are not. Those that are terminating or were
// evicted, and those that were created a moment ago, do not count.
func (s Snapshot) failingPods() (failing []corev1.Pod) {
	if s.Cluster == nil {
		return nil
	}
	for _, p := range s.Cluster.Pods {
		ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
		over := p.Status.Phase == corev1.PodSucceeded || p.DeletionTimestamp != nil || isEvicted(p)
		if created := p.CreationTimestamp.Time; !ready && !over && (created.IsZero() || s.since(created) > startTime) {
			failing = append(failing, p)
		}
	}
	return failing
}

func isEvicted(p corev1.Pod) bool {
	return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "Evicted"
}

// podName returns the name of p with its namespace.
func podName(p corev1.Pod) string { return p.Namespace + "/" + p.Name }

// containers returns the states of all containers of p.
func containers(p corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
}

// waitingPods returns the containers of failing pods that wait for one of reasons and whose message matches.
func waitingPods(s Snapshot, matches func(message string) bool, reasons ...string) (found []Evidence) {
	for _, p := range s.failingPods() {
		for _, c := range containers(p) {
			if w := c.State.Waiting; w != nil && slices.Contains(reasons, w.Reason) {
				// The message of a back-off has no cause: that is in the events.
				message := strings.Join(append([]string{w.Message}, s.warningsOf(p)...), "; ")
				if matches == nil || matches(message) {
					found = append(found, Evidence{Text: fmt.Sprintf("pod %s: %s: %s", podName(p), w.Reason, shorten(cmp.Or(firstWith(message, "pull", "image"), w.Message, c.Image)))})
				}
			}
		}
	}
	return found
}

// firstWith returns the first part of a message that has one of words.
func firstWith(message string, words ...string) string {
	for part := range strings.SplitSeq(message, "; ") {
		for _, w := range words {
			if strings.Contains(part, w) && !strings.HasPrefix(part, "Back-off") {
				return part
			}
		}
	}
	return ""
}

// isAbout reports whether e is about p, and not about an earlier pod of that name: those of a StatefulSet keep theirs.
func isAbout(e corev1.Event, p corev1.Pod) bool {
	o := e.InvolvedObject
	return o.Namespace == p.Namespace && o.Name == p.Name && (o.UID == "" || p.UID == "" || o.UID == p.UID)
}

// warningsOf returns the messages of the warnings about p.
func (s Snapshot) warningsOf(p corev1.Pod) (messages []string) {
	for _, e := range s.Cluster.Events {
		if e.Type == corev1.EventTypeWarning && isAbout(e, p) {
			messages = append(messages, e.Message)
		}
	}
	return messages
}

// isDenied reports whether a registry refused to deliver an image.
func isDenied(message string) bool {
	return containsAny(message, "401 Unauthorized", "403 Forbidden", "pull access denied", "authorization failed", "authentication required", "denied: ")
}

func containsAny(text string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(text, p) })
}

func imageRules() []Rule {
	pull := []string{"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"}
	return []Rule{
		{ID: "image-name-invalid", Area: areaPods, Culprit: "the name of an image is not valid", Symptom: "InvalidImageName",
			Fix: "correct the image in the application's configuration", Find: func(s Snapshot) []Evidence { return waitingPods(s, nil, "InvalidImageName") }},
		{ID: "image-not-on-node", Area: areaPods, Culprit: "an image that must not be pulled is not on the node", Symptom: "ErrImageNeverPull",
			Fix:  "on that node, sudo plinth install --bundle FILE (or join) with the installed bundle loads missing images; else set imagePullPolicy to IfNotPresent",
			Find: func(s Snapshot) []Evidence { return waitingPods(s, nil, "ErrImageNeverPull") }},
		{ID: "image-pull-denied", Area: areaPods, Culprit: "a registry refuses to deliver an image", Symptom: "ErrImagePull: unauthorized, denied",
			Fix:  "check the license and the registry's user in the console (Registry settings); the pod's imagePullSecrets must exist",
			Find: func(s Snapshot) []Evidence { return waitingPods(s, isDenied, pull...) }},
		{ID: "image-registry-unreachable", Area: areaPods, Culprit: "a node does not reach the registry of an image",
			Symptom: "ErrImagePull on hosts without internet",
			Fix:     "air gap: the image is not in the bundle or the .airgap file; ask the vendor, or load it into the registry\nwith internet: check proxy, DNS and firewall of the node",
			Find:    func(s Snapshot) []Evidence { return waitingPods(s, isUnreachable, pull...) }},
		{ID: "image-missing", Area: areaPods, Culprit: "an image does not exist in its registry", Symptom: "ErrImagePull: not found",
			Fix: "correct the image or its tag in the application's configuration; air gap: upload the .airgap file of this version in the console",
			Find: func(s Snapshot) []Evidence {
				return waitingPods(s, func(m string) bool { return !isDenied(m) && !isUnreachable(m) }, pull...)
			}},
		{ID: "image-wrong-architecture", Area: areaPods, Culprit: "an image is for another kind of processor", Symptom: "exec format error",
			Fix:  "use the image for the architecture of the node (uname -m)",
			Logs: []LogPattern{{Source: LogPods, Match: `exec format error`}},
			Find: func(s Snapshot) []Evidence {
				return endedPods(s, func(t *corev1.ContainerStateTerminated) bool { return strings.Contains(t.Message, "exec format error") })
			}},
	}
}

// isUnreachable reports whether a registry could not be reached.
func isUnreachable(message string) bool {
	return containsAny(message, "no such host", "i/o timeout", "connection refused", "no route to host", "network is unreachable", "TLS handshake timeout",
		"context deadline exceeded", "server misbehaving", "connection reset", "x509:")
}

// endedPods returns the containers of failing pods whose last end matches.
func endedPods(s Snapshot, matches func(*corev1.ContainerStateTerminated) bool) (found []Evidence) {
	for _, p := range s.failingPods() {
		for _, c := range containers(p) {
			for _, t := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
				if t != nil && matches(t) {
					found = append(found, Evidence{Text: fmt.Sprintf("pod %s: %s ended with %s (code %d), %d restarts", podName(p), c.Name, t.Reason, t.ExitCode, c.RestartCount)})
					break
				}
			}
		}
	}
	return found
}

func podRules() []Rule {
	return []Rule{
		{ID: "pod-sandbox", Area: areaPods, Culprit: "the network of a pod cannot be set up", Symptom: "pod in ContainerCreating: FailedCreatePodSandBox",
			Fix: "on its node: sudo plinth diagnose; remove files of other networks from /etc/cni/net.d, then restart k0s",
			Find: func(s Snapshot) []Evidence {
				return podEvents(s, func(e corev1.Event) bool {
					return e.Reason == "FailedCreatePodSandBox" && !strings.Contains(e.Message, "no IP addresses available") && !strings.Contains(e.Message, "cgroupsPath")
				})
			}},
		{ID: "pod-addresses-used-up", Area: areaPods, Culprit: "a node has no free addresses for pods",
			Symptom: "FailedCreatePodSandBox: no IP addresses available in range set",
			Fix:     "restart k0s on the node, which frees addresses of pods that are gone; else add a node",
			Find: func(s Snapshot) []Evidence {
				return podEvents(s, func(e corev1.Event) bool { return strings.Contains(e.Message, "no IP addresses available") })
			}},
		{ID: "pod-config-missing", Area: areaPods, Culprit: "a Secret or ConfigMap that a pod needs is missing", Symptom: "CreateContainerConfigError",
			Fix: "deploy the application again in the console, which creates it; sudo plinth kubectl describe pod -n NAMESPACE POD",
			Find: func(s Snapshot) []Evidence {
				return waitingPods(s, nil, "CreateContainerConfigError", "CreateContainerError")
			}},
		{ID: "pod-out-of-memory", Area: areaPods, Culprit: "a container needs more memory than its limit", Symptom: "OOMKilled; the pod restarts",
			Fix: "raise the memory limit in the application's configuration", Find: func(s Snapshot) []Evidence {
				return endedPods(s, func(t *corev1.ContainerStateTerminated) bool { return t.Reason == "OOMKilled" })
			}},
		{ID: "pod-crashes", Area: areaPods, Culprit: "the program of a pod ends again and again", Symptom: "CrashLoopBackOff, Error",
			Fix: "its log says why: sudo plinth kubectl logs -n NAMESPACE POD --previous", Find: findCrashes},
		{ID: "pod-init-waits", Area: areaPods, Culprit: "an init container of a pod does not end", Symptom: "pod in Init:0/1 for minutes",
			Fix: "its log says what it waits for: sudo plinth kubectl logs -n NAMESPACE POD -c CONTAINER", Find: findWaitingInits},
		{ID: "pod-probe-fails", Area: areaPods, Culprit: "a pod runs, but its probe fails",
			Symptom: "Running, 0/1 Ready: Readiness probe failed, Liveness probe failed",
			Fix:     "what its probe asks does not answer: sudo plinth kubectl logs -n NAMESPACE POD",
			Find: func(s Snapshot) []Evidence {
				return podEvents(s, func(e corev1.Event) bool {
					return e.Reason == "Unhealthy" && !s.crashes(e.InvolvedObject.Namespace, e.InvolvedObject.Name)
				})
			}},
		{ID: "pods-evicted", Area: areaPods, Culprit: "kubelet evicted pods", Symptom: "pods Evicted or in state Error; others took their place", Warning: true,
			Fix: "give the node more of what the message names; remove the entries: sudo plinth kubectl delete pods -A --field-selector status.phase=Failed",
			Find: func(s Snapshot) (found []Evidence) {
				if s.Cluster == nil {
					return nil
				}
				for _, p := range s.Cluster.Pods {
					if isEvicted(p) {
						found = append(found, Evidence{Text: "pod " + podName(p) + " on node " + p.Spec.NodeName + ": " + shorten(p.Status.Message)})
					}
				}
				return found
			}},
	}
}

// isCrashing reports whether c ends again and again; a container without memory has a rule of its own.
func isCrashing(c corev1.ContainerStatus) bool {
	last := cmp.Or(c.State.Terminated, c.LastTerminationState.Terminated)
	if last != nil && last.Reason == "OOMKilled" {
		return false
	}
	return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" || c.State.Terminated != nil && c.State.Terminated.ExitCode != 0
}

// crashes reports whether a container of a pod ends again and again.
func (s Snapshot) crashes(namespace, name string) bool {
	return slices.ContainsFunc(s.failingPods(), func(p corev1.Pod) bool {
		return p.Namespace == namespace && p.Name == name && slices.ContainsFunc(containers(p), isCrashing)
	})
}

func findCrashes(s Snapshot) (found []Evidence) {
	for _, p := range s.failingPods() {
		for _, c := range containers(p) {
			if !isCrashing(c) {
				continue
			}
			text := fmt.Sprintf("pod %s: %s, %d restarts", podName(p), c.Name, c.RestartCount)
			if t := cmp.Or(c.LastTerminationState.Terminated, c.State.Terminated); t != nil {
				text += fmt.Sprintf(", last exit code %d", t.ExitCode)
			}
			found = append(found, Evidence{Text: text + lastLineOf(s, LogPods+podName(p)+"/"+c.Name),
				Fix: fmt.Sprintf("sudo plinth kubectl logs -n %s %s -c %s --previous", p.Namespace, p.Name, c.Name)})
		}
	}
	return found
}

// slowInit is how long an init container may run before it counts as waiting for something.
const slowInit = 5 * time.Minute

func findWaitingInits(s Snapshot) (found []Evidence) {
	for _, p := range s.failingPods() {
		for _, c := range p.Status.InitContainerStatuses {
			if r := c.State.Running; r != nil && s.since(r.StartedAt.Time) > slowInit && !isSidecar(p, c.Name) {
				found = append(found, Evidence{Text: fmt.Sprintf("pod %s: %s has run for %s%s", podName(p), c.Name, s.since(r.StartedAt.Time).Round(time.Minute),
					lastLineOf(s, LogPods+podName(p)+"/"+c.Name)), Fix: fmt.Sprintf("sudo plinth kubectl logs -n %s %s -c %s", p.Namespace, p.Name, c.Name)})
			}
		}
	}
	return found
}

// isSidecar reports whether an init container is meant to run as long as its pod.
func isSidecar(p corev1.Pod, container string) bool {
	return slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == container && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}

// unschedulable returns the pods that no node accepts and whose message has one of texts.
func unschedulable(s Snapshot, texts ...string) (found []Evidence) {
	for _, p := range s.failingPods() {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && containsAny(c.Message, texts...) {
				found = append(found, Evidence{Text: "pod " + podName(p) + ": " + shorten(c.Message)})
			}
		}
	}
	return found
}

func schedulingRules() []Rule {
	return []Rule{
		{ID: "resources-insufficient", Area: areaPods, Culprit: "no node has enough free processors or memory for a pod",
			Symptom: "pod Pending: Insufficient cpu, Insufficient memory",
			Fix:     "add a node (sudo plinth token create --role worker), give the machines more, or lower the requests in the application's configuration",
			Find:    func(s Snapshot) []Evidence { return unschedulable(s, "Insufficient ") }},
		{ID: "too-many-pods", Area: areaPods, Culprit: "the nodes run as many pods as they may", Symptom: "pod Pending: Too many pods",
			Fix:  "add a node (sudo plinth token create --role worker); 110 pods run on one",
			Find: func(s Snapshot) []Evidence { return unschedulable(s, "Too many pods") }},
		{ID: "no-node-matches", Area: areaPods, Culprit: "no node matches what a pod requires",
			Symptom: "pod Pending: node(s) didn't match, had untolerated taint, didn't have free ports",
			Fix:     "label, uncordon or add a node as the message says; sudo plinth kubectl get nodes --show-labels",
			Find: func(s Snapshot) []Evidence {
				return unschedulable(s, "didn't match", "untolerated taint", "were unschedulable", "free ports", "anti-affinity", "topology spread")
			}},
	}
}

func policyRules() []Rule {
	return []Rule{
		{ID: "quota-exceeded", Area: areaPods, Culprit: "a ResourceQuota forbids more pods", Symptom: "a Deployment has fewer pods than replicas: exceeded quota",
			Fix:  "raise the quota of the namespace: sudo plinth kubectl get resourcequota -A",
			Find: func(s Snapshot) []Evidence { return failedCreates(s, "exceeded quota", "must specify limits") }},
		{ID: "pod-forbidden", Area: areaPods, Culprit: "a policy of the cluster forbids a pod",
			Symptom: "a Deployment has fewer pods than replicas: violates PodSecurity, denied",
			Fix: "change the pod as the message says; or let its namespace allow it, at the risk that its pods take over the node: " +
				"sudo plinth kubectl label namespace NAMESPACE pod-security.kubernetes.io/enforce=privileged --overwrite",
			Find: func(s Snapshot) []Evidence {
				return failedCreates(s, "violates PodSecurity", "ValidatingAdmissionPolicy", "denied the request")
			}},
	}
}

// failedCreates returns the recent warnings that pods could not be created, whose message has one of texts.
func failedCreates(s Snapshot, texts ...string) []Evidence {
	found := eventsThat(s, func(e corev1.Event) bool { return e.Reason == "FailedCreate" && containsAny(e.Message, texts...) })
	for i := range found {
		found[i].Warning = false // the pods are missing, so none of them is failing
	}
	return found
}
