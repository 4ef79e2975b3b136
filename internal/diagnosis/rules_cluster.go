package diagnosis

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeCondition returns a condition of n; its Status is "" if the node does not have it.
func nodeCondition(n corev1.Node, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func nodeRules() []Rule {
	return []Rule{
		{ID: "node-not-reporting", Area: areaNodes, Culprit: "a node does not report any more", Symptom: "node NotReady: Kubelet stopped posting node status",
			Fix: "check that the host runs and reaches the controllers; there: sudo plinth diagnose", Find: func(s Snapshot) (found []Evidence) {
				return notReadyNodes(s, func(c corev1.NodeCondition) bool { return c.Status == corev1.ConditionUnknown })
			}},
		{ID: "pod-network-missing", Area: areaNodes, Culprit: "the pod network of a node is not set up",
			Symptom: "node NotReady: cni plugin not initialized; pods stay in ContainerCreating",
			Fix:     "sudo plinth kubectl get pods -n kube-system -o wide -l k8s-app=kube-router\nremove files of other networks from /etc/cni/net.d",
			Find: func(s Snapshot) (found []Evidence) {
				return notReadyNodes(s, isNetworkMissing)
			}},
		{ID: "node-not-ready", Area: areaNodes, Culprit: "a node is not Ready", Symptom: "pods move away from it or wait for it",
			Fix: "on that host: sudo plinth diagnose",
			Find: func(s Snapshot) (found []Evidence) {
				return notReadyNodes(s, func(c corev1.NodeCondition) bool { return c.Status != corev1.ConditionUnknown && !isNetworkMissing(c) })
			}},
		{ID: "node-cordoned", Area: areaNodes, Culprit: "a node is cordoned", Symptom: "no new pods start on it", Warning: true,
			Fix: "when the work on it is done: sudo plinth kubectl uncordon NAME",
			Find: func(s Snapshot) (found []Evidence) {
				if s.Cluster == nil {
					return nil
				}
				for _, n := range s.Cluster.Nodes {
					if n.Spec.Unschedulable {
						found = append(found, Evidence{Text: "node " + n.Name + " is cordoned", Fix: "when the work on it is done: sudo plinth kubectl uncordon " + n.Name})
					}
				}
				return found
			}},
	}
}

// isNetworkMissing reports whether a node is not Ready for want of a pod network.
func isNetworkMissing(c corev1.NodeCondition) bool {
	return strings.Contains(c.Message, "NetworkPluginNotReady") || strings.Contains(c.Message, "cni plugin not initialized")
}

// notReadyNodes returns the nodes that are not Ready and whose condition matches.
func notReadyNodes(s Snapshot, matches func(corev1.NodeCondition) bool) (found []Evidence) {
	if s.Cluster == nil {
		return nil
	}
	for _, n := range s.Cluster.Nodes {
		if c := nodeCondition(n, corev1.NodeReady); c.Status != corev1.ConditionTrue && matches(c) {
			found = append(found, Evidence{Text: fmt.Sprintf("node %s: %s", n.Name, shorten(cmp.Or(c.Reason+": "+c.Message, "no report")))})
		}
	}
	return found
}

func storageRules() []Rule {
	describe := "sudo plinth kubectl describe pvc -n NAMESPACE NAME"
	return []Rule{
		{ID: "storage-class-missing", Area: areaStorage, Culprit: "a volume claim names a storage class that does not exist",
			Symptom: "PersistentVolumeClaim Pending",
			Fix:     "sudo plinth kubectl get storageclass; use one of them in the application's configuration", Find: findMissingClasses},
		{ID: "claim-unbound", Area: areaStorage, Culprit: "a volume claim gets no volume", Symptom: "PersistentVolumeClaim Pending; its pod waits", Fix: describe,
			Find: findUnboundClaims},
		{ID: "volume-on-another-node", Area: areaStorage, Culprit: "the volume of a pod is on a node where the pod cannot run",
			Symptom: "pod Pending: volume node affinity conflict",
			Fix:     "start or uncordon the node that has the volume; local volumes stay on their node",
			Find:    func(s Snapshot) []Evidence { return unschedulable(s, "volume node affinity conflict") }},
		{ID: "volume-not-mounted", Area: areaStorage, Culprit: "a volume cannot be mounted", Symptom: "pod in ContainerCreating: FailedMount, FailedAttachVolume",
			Fix: "sudo plinth kubectl describe pod -n NAMESPACE POD; what it names (Secret, ConfigMap, folder, NFS server) must exist",
			Find: func(s Snapshot) []Evidence {
				return podEvents(s, func(e corev1.Event) bool { return e.Reason == "FailedMount" || e.Reason == "FailedAttachVolume" })
			}},
		{ID: "volume-full", Area: areaStorage, Culprit: "a volume of a pod is full", Symptom: "no space left on device in the log of a pod", Fix: fixFreeSpace,
			Logs: []LogPattern{{Source: LogPods, Match: `(?i)no space left on device|disk quota exceeded`, Unless: `(?i)inotify|fsnotify|watcher`}}},
	}
}

// hasStorageClass reports whether the cluster has the class name, or for nil a default class.
func (c Cluster) hasStorageClass(name *string) bool {
	for _, class := range c.StorageClasses {
		if name != nil && class.Name == *name || name == nil && class.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
			return true
		}
	}
	return name != nil && *name == "" // a claim that wants a volume without a class
}

func findMissingClasses(s Snapshot) (found []Evidence) {
	for _, c := range s.pendingClaims() {
		if !s.Cluster.hasStorageClass(c.Spec.StorageClassName) {
			class := "a default storage class, which does not exist"
			if c.Spec.StorageClassName != nil {
				class = "the storage class " + *c.Spec.StorageClassName + ", which does not exist"
			}
			found = append(found, Evidence{Text: fmt.Sprintf("claim %s/%s needs %s", c.Namespace, c.Name, class)})
		}
	}
	return found
}

func findUnboundClaims(s Snapshot) (found []Evidence) {
	for _, c := range s.pendingClaims() {
		event := s.lastEvent(c.Namespace, c.Name)
		waits := event.Reason == "WaitForFirstConsumer" || event.Reason == "WaitForPodScheduled" // without a pod that uses it, this is as it should be
		if s.Cluster.hasStorageClass(c.Spec.StorageClassName) && !waits {
			found = append(found, Evidence{Text: fmt.Sprintf("claim %s/%s is Pending%s", c.Namespace, c.Name, describeEvent(event)),
				Fix: fmt.Sprintf("sudo plinth kubectl describe pvc -n %s %s", c.Namespace, c.Name), Warning: s.since(c.CreationTimestamp.Time) < time.Minute})
		}
	}
	return found
}

func (s Snapshot) pendingClaims() (pending []corev1.PersistentVolumeClaim) {
	if s.Cluster == nil {
		return nil
	}
	for _, c := range s.Cluster.Claims {
		if c.Status.Phase == corev1.ClaimPending {
			pending = append(pending, c)
		}
	}
	return pending
}

// recentEvents is how old an event may be to count: the API server keeps them for an hour.
const recentEvents = time.Hour

// eventTime returns when e was last seen.
func eventTime(e corev1.Event) time.Time {
	last := e.LastTimestamp.Time
	if e.Series != nil {
		last = e.Series.LastObservedTime.Time
	}
	return cmp.Or(last, e.EventTime.Time, e.CreationTimestamp.Time)
}

// lastEvent returns the newest event of an object.
func (s Snapshot) lastEvent(namespace, name string) (last corev1.Event) {
	for _, e := range s.Cluster.Events {
		if e.InvolvedObject.Namespace == namespace && e.InvolvedObject.Name == name && !eventTime(e).Before(eventTime(last)) {
			last = e
		}
	}
	return last
}

func describeEvent(e corev1.Event) string {
	if e.Reason == "" {
		return ""
	}
	return ": " + e.Reason + ": " + shorten(e.Message)
}

// eventsWith returns the recent warnings whose message has text.
func eventsWith(s Snapshot, text string) []Evidence {
	return eventsThat(s, func(e corev1.Event) bool { return strings.Contains(e.Message, text) })
}

func eventsThat(s Snapshot, matches func(corev1.Event) bool) (found []Evidence) {
	if s.Cluster == nil {
		return nil
	}
	impaired := s.impaired() // once: a cluster may have thousands of events and pods
	for _, e := range s.Cluster.Events {
		if e.Type == corev1.EventTypeWarning && s.since(eventTime(e)) < recentEvents && matches(e) {
			o := e.InvolvedObject
			found = append(found, Evidence{Text: fmt.Sprintf("%s %s/%s%s", strings.ToLower(o.Kind), o.Namespace, o.Name, describeEvent(e)), Warning: !impaired})
		}
	}
	return found
}

// podEvents returns the recent warnings about pods that do not run now.
func podEvents(s Snapshot, matches func(corev1.Event) bool) []Evidence {
	failing := map[string]corev1.Pod{}
	for _, p := range s.failingPods() {
		failing[podName(p)] = p
	}
	return eventsThat(s, func(e corev1.Event) bool {
		p, ok := failing[e.InvolvedObject.Namespace+"/"+e.InvolvedObject.Name]
		return ok && isAbout(e, p) && matches(e)
	})
}

// slowStop is how long an object may be terminating before it counts as stuck.
const slowStop = 10 * time.Minute

func objectRules() []Rule {
	return []Rule{
		{ID: "webhook-without-server", Area: areaObjects, Culprit: "a webhook that must answer has no server",
			Symptom: "no object can be created: failed calling webhook",
			Fix: "start the pods of its service; if its software is gone, delete its configuration: " +
				"sudo plinth kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations; sudo plinth kubectl delete KIND NAME", Find: findDeadWebhooks},
		{ID: "api-service-down", Area: areaObjects, Culprit: "an API that a server in the cluster should answer is not available",
			Symptom: "kubectl is slow; namespaces stay Terminating",
			Fix:     "start the pods of its service; if its software is gone: sudo plinth kubectl delete apiservice NAME",
			Find: func(s Snapshot) (found []Evidence) {
				if s.Cluster == nil {
					return nil
				}
				for _, a := range s.Cluster.APIServices {
					if !a.Available {
						found = append(found, Evidence{Text: a.Name + ": " + shorten(a.Message)})
					}
				}
				return found
			}},
		{ID: "stuck-terminating", Area: areaObjects, Culprit: "an object is not deleted, because a finalizer or a node does not answer",
			Symptom: "namespace, pod or claim in Terminating for minutes",
			Fix:     "start what the finalizer belongs to; a pod of a lost node: sudo plinth node remove NAME --force", Find: findStuckObjects},
		{ID: "budget-blocks-drain", Area: areaObjects, Culprit: "a PodDisruptionBudget allows no pod to be moved",
			Symptom: "drain and upgrade wait: Cannot evict pod", Warning: true,
			Fix: "let all pods of the budget become Ready, raise the replicas, or let the budget allow one disruption: " +
				"sudo plinth kubectl get poddisruptionbudgets -A; sudo plinth kubectl edit poddisruptionbudget -n NAMESPACE NAME",
			Find: func(s Snapshot) (found []Evidence) {
				if s.Cluster == nil || len(s.Cluster.Nodes) < 2 { // pods of the only node are not moved
					return nil
				}
				for _, b := range s.Cluster.Budgets {
					if b.Status.ExpectedPods > 0 && b.Status.DisruptionsAllowed == 0 {
						found = append(found, Evidence{Text: fmt.Sprintf("%s/%s: %d of %d pods are healthy, %d must be", b.Namespace, b.Name,
							b.Status.CurrentHealthy, b.Status.ExpectedPods, b.Status.DesiredHealthy)})
					}
				}
				return found
			}},
		{ID: "release-pending", Area: areaObjects, Culprit: "an install or upgrade of a Helm release was interrupted",
			Symptom: "another operation (install/upgrade/rollback) is in progress",
			Fix: "deploy the version again in the console; if it is still in progress, remove the record of the interrupted change first: " +
				"sudo plinth kubectl delete secret -n NAMESPACE -l owner=helm,name=NAME,status=STATUS", Find: func(s Snapshot) (found []Evidence) {
				return releases(s, func(r Release) bool { return strings.HasPrefix(r.Status, "pending-") && s.since(r.Changed) > slowStop })
			}},
		{ID: "release-failed", Area: areaObjects, Culprit: "the last change of a Helm release failed",
			Symptom: "the application has an old version, or a part of it is missing",
			Fix:     "deploy the version again in the console, which shows the reason", Find: func(s Snapshot) (found []Evidence) {
				return releases(s, func(r Release) bool { return r.Status == "failed" })
			}},
	}
}

func findDeadWebhooks(s Snapshot) []Evidence {
	found := eventsWith(s, "failed calling webhook")
	if s.Cluster == nil {
		return nil
	}
	for _, w := range s.Cluster.Webhooks {
		if w.Mandatory && w.Service != "" && !s.Cluster.hasBackend(w.Namespace, w.Service) {
			kind, name, _ := strings.Cut(w.Config, " ")
			found = append(found, Evidence{Text: fmt.Sprintf("%s of %s: the service %s/%s has no pod that is Ready", w.Name, w.Config, w.Namespace, w.Service),
				Fix: fmt.Sprintf("start the pods of the service %s/%s; if its software is gone: sudo plinth kubectl delete %s %s", w.Namespace, w.Service, strings.ToLower(kind), name)})
		}
	}
	return found
}

// hasBackend reports whether a service has a pod that is Ready.
func (c Cluster) hasBackend(namespace, service string) bool {
	for _, e := range c.EndpointSlices {
		if e.Namespace != namespace || e.Labels["kubernetes.io/service-name"] != service {
			continue
		}
		for _, p := range e.Endpoints {
			if p.Conditions.Ready == nil || *p.Conditions.Ready {
				return true
			}
		}
	}
	return false
}

func findStuckObjects(s Snapshot) (found []Evidence) {
	if s.Cluster == nil {
		return nil
	}
	add := func(kind string, m metav1.ObjectMeta, detail string) {
		if m.DeletionTimestamp != nil && s.since(m.DeletionTimestamp.Time) > slowStop {
			name := m.Name
			if m.Namespace != "" {
				name = m.Namespace + "/" + name
			}
			if len(m.Finalizers) > 0 {
				detail += "; finalizers: " + strings.Join(m.Finalizers, ", ")
			}
			found = append(found, Evidence{Text: fmt.Sprintf("%s %s is terminating since %s%s", kind, name, m.DeletionTimestamp.UTC().Format(time.RFC3339), detail),
				Warning: kind != "namespace"})
		}
	}
	for _, n := range s.Cluster.Namespaces {
		detail := ""
		for _, c := range n.Status.Conditions {
			if c.Status == corev1.ConditionTrue {
				detail += "; " + shorten(c.Message)
			}
		}
		add("namespace", n.ObjectMeta, detail)
	}
	for _, p := range s.Cluster.Pods {
		add("pod", p.ObjectMeta, " on node "+p.Spec.NodeName)
	}
	for _, c := range s.Cluster.Claims {
		add("claim", c.ObjectMeta, "")
	}
	return found
}

// releases returns the releases that match, with their status.
func releases(s Snapshot, matches func(Release) bool) (found []Evidence) {
	if s.Cluster == nil {
		return nil
	}
	for _, r := range s.Cluster.Releases {
		if matches(r) {
			found = append(found, Evidence{Text: fmt.Sprintf("release %s in namespace %s, revision %s, is %s", r.Name, r.Namespace, r.Revision, r.Status)})
		}
	}
	return slices.Clip(found)
}
