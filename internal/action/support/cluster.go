package support

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
)

// Collections of the API that the rules read.
const (
	pathNodes       = "/api/v1/nodes"
	pathNamespaces  = "/api/v1/namespaces"
	pathPods        = "/api/v1/pods"
	pathEvents      = "/api/v1/events"
	pathClaims      = "/api/v1/persistentvolumeclaims"
	pathSecrets     = "/api/v1/secrets"
	pathClasses     = "/apis/storage.k8s.io/v1/storageclasses"
	pathBudgets     = "/apis/policy/v1/poddisruptionbudgets"
	pathEndpoints   = "/apis/discovery.k8s.io/v1/endpointslices"
	pathValidating  = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
	pathMutating    = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
	pathAPIServices = "/apis/apiregistration.k8s.io/v1/apiservices"
)

// objectLists is the JSON of collections of the API, by path.
type objectLists map[string][]byte

// readCluster returns the objects of the cluster that the rules read, also as JSON, or why the API does not answer.
// Neither is returned on a host without credentials. A worker's credentials show nodes only.
func (c *collector) readCluster(ctx context.Context) (*diagnosis.Cluster, objectLists, string) {
	if c.client == nil {
		return nil, nil, ""
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	raw, err := c.client.ListRaw(ctx, pathNodes)
	if err != nil {
		return nil, nil, problem.ExplainConnection(err)
	}
	lists := objectLists{pathNodes: raw}
	if !c.install.Worker {
		c.fetchLists(ctx, lists, []string{pathNamespaces, pathPods, pathEvents, pathClaims, pathClasses, pathBudgets, pathEndpoints,
			pathValidating, pathMutating, pathAPIServices})
	}
	cluster := c.decodeCluster(lists)
	cluster.Partial = c.install.Worker
	if !c.install.Worker {
		cluster.Releases = c.readReleases(ctx)
	}
	return cluster, lists, ""
}

// fetchLists adds the collections at paths to lists, a few at once. One that cannot be read is recorded as missing.
func (c *collector) fetchLists(ctx context.Context, lists objectLists, paths []string) {
	var mu sync.Mutex
	var fetches sync.WaitGroup
	slots := make(chan struct{}, maxWorkers)
	for _, path := range paths {
		fetches.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			raw, err := c.client.ListRaw(ctx, path)
			if err != nil {
				c.recordMissing("cluster: "+path, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			lists[path] = raw
		})
	}
	fetches.Wait()
}

// decodeItems returns the items of the collection at path, or none.
func decodeItems[T any](c *collector, lists objectLists, path string) []T {
	var list struct {
		Items []T `json:"items"`
	}
	if raw := lists[path]; raw != nil {
		if err := json.Unmarshal(raw, &list); err != nil {
			c.recordMissing("cluster: "+path, err)
		}
	}
	return list.Items
}

// decodeCluster returns the objects in lists.
func (c *collector) decodeCluster(lists objectLists) *diagnosis.Cluster {
	cluster := &diagnosis.Cluster{}
	cluster.Nodes = decodeItems[corev1.Node](c, lists, pathNodes)
	cluster.Namespaces = decodeItems[corev1.Namespace](c, lists, pathNamespaces)
	cluster.Pods = decodeItems[corev1.Pod](c, lists, pathPods)
	cluster.Events = decodeItems[corev1.Event](c, lists, pathEvents)
	cluster.Claims = decodeItems[corev1.PersistentVolumeClaim](c, lists, pathClaims)
	decodeInto(c, lists, pathClasses, &cluster.StorageClasses)
	decodeInto(c, lists, pathBudgets, &cluster.Budgets)
	decodeInto(c, lists, pathEndpoints, &cluster.EndpointSlices)
	for _, w := range decodeItems[admissionv1.ValidatingWebhookConfiguration](c, lists, pathValidating) {
		for _, hook := range w.Webhooks {
			cluster.Webhooks = append(cluster.Webhooks, newWebhook("ValidatingWebhookConfiguration "+w.Name, hook.Name, hook.ClientConfig, hook.FailurePolicy))
		}
	}
	for _, w := range decodeItems[admissionv1.MutatingWebhookConfiguration](c, lists, pathMutating) {
		for _, hook := range w.Webhooks {
			cluster.Webhooks = append(cluster.Webhooks, newWebhook("MutatingWebhookConfiguration "+w.Name, hook.Name, hook.ClientConfig, hook.FailurePolicy))
		}
	}
	for _, a := range decodeItems[apiService](c, lists, pathAPIServices) {
		cluster.APIServices = append(cluster.APIServices, a.describe())
	}
	return cluster
}

// decodeInto sets items to those of the collection at path.
func decodeInto[T any](c *collector, lists objectLists, path string, items *[]T) {
	*items = decodeItems[T](c, lists, path)
}

func newWebhook(config, name string, client admissionv1.WebhookClientConfig, policy *admissionv1.FailurePolicyType) diagnosis.Webhook {
	w := diagnosis.Webhook{Config: config, Name: name, Mandatory: policy == nil || *policy == admissionv1.Fail}
	if client.Service != nil {
		w.Namespace, w.Service = client.Service.Namespace, client.Service.Name
	}
	return w
}

// apiService is the part of an APIService object that matters; its types are not among those of k8s.io/api.
type apiService struct {
	metav1.ObjectMeta `json:"metadata"`
	Status            struct {
		Conditions []metav1.Condition `json:"conditions"`
	} `json:"status"`
}

func (a apiService) describe() diagnosis.APIService {
	out := diagnosis.APIService{Name: a.Name, Available: true}
	for _, c := range a.Status.Conditions {
		if c.Type == "Available" {
			out.Available, out.Message = c.Status != metav1.ConditionFalse, c.Reason+": "+c.Message
		}
	}
	return out
}

// readReleases returns the newest revision of each Helm release, from the labels of Helm's Secrets.
func (c *collector) readReleases(ctx context.Context) []diagnosis.Release {
	raw, err := c.client.ListRawMetadata(ctx, pathSecrets, "owner=helm")
	if err != nil {
		c.recordMissing("Helm releases", err)
		return nil
	}
	return newestReleases(decodeItems[secretMetadata](c, objectLists{pathSecrets: raw}, pathSecrets))
}

// secretMetadata is a Secret without its data.
type secretMetadata struct {
	metav1.ObjectMeta `json:"metadata"`
}

// newestReleases returns the newest revision of each release among Helm's Secrets (Helm 3.18, pkg/storage/driver/secrets.go).
func newestReleases(secrets []secretMetadata) (all []diagnosis.Release) {
	revision := func(r diagnosis.Release) int {
		n, _ := strconv.Atoi(r.Revision) // Helm writes digits
		return n
	}
	for _, s := range secrets {
		if s.Labels["owner"] != "helm" {
			continue
		}
		r := diagnosis.Release{Name: s.Labels["name"], Namespace: s.Namespace, Status: s.Labels["status"], Revision: s.Labels["version"], Changed: s.CreationTimestamp.Time}
		for _, stamp := range []string{s.Labels["createdAt"], s.Labels["modifiedAt"]} {
			if seconds, err := strconv.ParseInt(stamp, 10, 64); err == nil {
				r.Changed = time.Unix(seconds, 0).UTC()
			}
		}
		i := slices.IndexFunc(all, func(o diagnosis.Release) bool { return o.Name == r.Name && o.Namespace == r.Namespace })
		switch {
		case i < 0:
			all = append(all, r)
		case revision(r) > revision(all[i]):
			all[i] = r
		}
	}
	slices.SortFunc(all, func(a, b diagnosis.Release) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return all
}

// containerLog identifies the log of a container.
type containerLog struct {
	namespace, pod, container string
	previous                  bool
}

// name returns the name of the log in a snapshot.
func (l containerLog) name() string {
	return diagnosis.LogPods + l.namespace + "/" + l.pod + "/" + l.container
}

// logsToRead returns the logs of the containers that are not Ready, and of the cluster's name servers.
func logsToRead(pods []corev1.Pod) (logs []containerLog) {
	for _, p := range pods {
		dns := p.Namespace == metav1.NamespaceSystem && p.Labels["k8s-app"] == "kube-dns"
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			ended := s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
			started := s.State.Running != nil || s.State.Terminated != nil || s.RestartCount > 0
			if started && !ended && (!s.Ready || dns) && p.Status.Phase != corev1.PodSucceeded {
				logs = append(logs, containerLog{p.Namespace, p.Name, s.Name, s.State.Waiting != nil})
			}
		}
	}
	return logs
}

// readPodLogs returns the last lines of the containers that are not Ready, by the names of the logs in a snapshot.
func (c *collector) readPodLogs(ctx context.Context, cluster *diagnosis.Cluster) map[string][]diagnosis.Line {
	if cluster == nil || c.client == nil {
		return nil
	}
	all := map[string][]diagnosis.Line{}
	logs := logsToRead(cluster.Pods)
	var mu sync.Mutex
	var reads sync.WaitGroup
	slots := make(chan struct{}, maxWorkers)
	ctx, cancel := context.WithTimeout(ctx, podLogTimeout)
	defer cancel()
	for _, l := range logs[:min(maxPodLogs, len(logs))] {
		reads.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			lines, err := c.client.PodLog(ctx, l.namespace, l.pod, kube.LogOptions{Container: l.container, Lines: podLogLines, Previous: l.previous})
			if err != nil { // the container has not logged, or its node does not answer
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, text := range lines {
				all[l.name()] = append(all[l.name()], diagnosis.Line{Text: text})
			}
		})
	}
	reads.Wait()
	return all
}
