package support

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/kube"
)

const folderCluster = "cluster-resources/"

// collection is a kind of objects, with its name in a bundle (troubleshoot v0.133.0, pkg/constants).
type collection struct {
	path       string // in the API
	name       string // folder or file in folderCluster
	namespaced bool   // a file for each namespace
}

// collections are the objects that a bundle has. Secrets are not among them.
var collections = []collection{
	{pathNodes, "nodes", false}, {pathNamespaces, "namespaces", false}, {pathClasses, "storage-classes", false}, {"/api/v1/persistentvolumes", "pvs", false},
	{"/apis/storage.k8s.io/v1/volumeattachments", "volumeattachments", false}, {"/apis/scheduling.k8s.io/v1/priorityclasses", "priorityclasses", false},
	{"/apis/networking.k8s.io/v1/ingressclasses", "ingress-classes", false}, {"/apis/certificates.k8s.io/v1/certificatesigningrequests", "certificatesigningrequests", false},
	{pathValidating, "validating-webhook-configurations", false}, {pathMutating, "mutating-webhook-configurations", false}, {pathAPIServices, "apiservices", false},
	{pathPods, "pods", true}, {pathEvents, "events", true}, {pathClaims, "pvcs", true}, {pathBudgets, "pod-disruption-budgets", true},
	{pathEndpoints, "endpointslices", true}, {"/api/v1/endpoints", "endpoints", true}, {"/api/v1/services", "services", true}, {"/api/v1/configmaps", "configmaps", true},
	{"/api/v1/limitranges", "limitranges", true}, {"/api/v1/resourcequotas", "resource-quota", true}, {"/api/v1/serviceaccounts", "serviceaccounts", true},
	{"/apis/apps/v1/deployments", "deployments", true}, {"/apis/apps/v1/statefulsets", "statefulsets", true}, {"/apis/apps/v1/daemonsets", "daemonsets", true},
	{"/apis/apps/v1/replicasets", "replicasets", true}, {"/apis/batch/v1/jobs", "jobs", true}, {"/apis/batch/v1/cronjobs", "cronjobs", true},
	{"/apis/networking.k8s.io/v1/ingresses", "ingress", true}, {"/apis/networking.k8s.io/v1/networkpolicies", "network-policy", true},
	{"/apis/coordination.k8s.io/v1/leases", "leases", true}, {"/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "custom-resource-definitions", false},
}

// file is a finished file of a bundle.
type file struct {
	name    string
	content []byte
}

// clusterFiles returns the objects of the cluster and its version as files. What cannot be read is listed in failed.
func (c *collector) clusterFiles(ctx context.Context) (all []file, failed []file) {
	if c.client == nil || c.objects == nil {
		return nil, nil
	}
	lists := objectLists{}
	var toFetch []string
	for _, k := range collections {
		if raw := c.objects[k.path]; raw != nil {
			lists[k.path] = raw
		} else if !c.install.Worker {
			toFetch = append(toFetch, k.path)
		}
	}
	c.fetchLists(ctx, lists, toFetch)
	for _, k := range collections {
		raw := lists[k.path]
		if raw == nil {
			if !c.install.Worker {
				failed = append(failed, file{folderCluster + k.name, []byte("the API server did not deliver " + k.path)})
			}
			continue
		}
		parts, err := splitList(raw, k)
		if err != nil {
			failed = append(failed, file{folderCluster + k.name, []byte(err.Error())})
			continue
		}
		all = append(all, parts...)
	}
	return append(all, c.apiFiles(ctx)...), failed
}

// apiFiles returns the version of the API server and the kinds that it has.
func (c *collector) apiFiles(ctx context.Context) (all []file) {
	if raw, err := c.client.GetRaw(ctx, "/version"); err == nil {
		var v struct {
			GitVersion string `json:"gitVersion"`
		}
		if json.Unmarshal(raw, &v) == nil {
			all = append(all, encodeFile("cluster-info/cluster_version.json", map[string]any{"info": json.RawMessage(raw), "string": v.GitVersion}))
		}
	}
	if groups, resources, err := c.client.APIResources(); err == nil {
		all = append(all, encodeFile(folderCluster+"groups.json", groups), encodeFile(folderCluster+"resources.json", resources))
	}
	return all
}

// encodeFile returns the file with the JSON of v, which can be encoded.
func encodeFile(name string, v any) file {
	raw, _ := json.Marshal(v)
	return file{name, raw}
}

// splitList returns the list raw as the files of k: one, or one for each namespace. Each object gets its kind, which the
// API server leaves out in lists, and loses the record of who set which field.
func splitList(raw []byte, k collection) ([]file, error) {
	var list struct {
		Kind       string           `json:"kind"`
		APIVersion string           `json:"apiVersion"`
		Items      []map[string]any `json:"items"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("%s: %w", k.path, err)
	}
	byNamespace := map[string][]map[string]any{}
	for _, o := range list.Items {
		o["kind"], o["apiVersion"] = strings.TrimSuffix(list.Kind, "List"), list.APIVersion
		meta, _ := o["metadata"].(map[string]any)
		delete(meta, "managedFields")
		namespace := ""
		if k.namespaced {
			namespace, _ = meta["namespace"].(string)
		}
		byNamespace[namespace] = append(byNamespace[namespace], o)
	}
	if !k.namespaced {
		byNamespace[""] = append([]map[string]any{}, byNamespace[""]...) // a file even without objects
	}
	var all []file
	for namespace, items := range byNamespace {
		name := folderCluster + k.name + ".json"
		if k.namespaced {
			name = folderCluster + k.name + "/" + namespace + ".json"
		}
		content, err := json.Marshal(map[string]any{"kind": list.Kind, "apiVersion": list.APIVersion, "metadata": map[string]any{}, "items": items})
		if err != nil {
			return nil, err
		}
		all = append(all, file{name, content})
	}
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// Limits of the logs of pods in a bundle.
const (
	maxBundleLogs  = 150  // containers
	bundleLogLines = 2000 // of each, and at most 256 KiB
)

// podLogFiles returns the logs of containers: of those that are not Ready, those of the system and of Plinth's add-ons. left is
// the number of containers above the limit, whose logs are left out.
func (c *collector) podLogFiles(ctx context.Context, pods []corev1.Pod) (all []file, left int) {
	logs := logsToRead(pods)
	own := []string{metav1.NamespaceSystem}
	for _, a := range c.receipt.AddOns {
		own = append(own, a.Namespace)
	}
	for _, p := range pods {
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			l := containerLog{p.Namespace, p.Name, s.Name, false}
			if slices.Contains(own, p.Namespace) && !slices.Contains(logs, l) && s.State.Waiting == nil {
				logs = append(logs, l)
			}
		}
	}
	var mu sync.Mutex
	var reads sync.WaitGroup
	slots := make(chan struct{}, maxConcurrency)
	for _, l := range logs[:min(maxBundleLogs, len(logs))] {
		reads.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, podLogTimeout)
			defer cancel()
			lines, err := c.client.PodLog(ctx, l.namespace, l.pod, kube.LogOptions{Container: l.container, Lines: bundleLogLines, Previous: l.previous})
			f := file{l.file(), []byte(strings.Join(lines, "\n") + "\n")}
			if err != nil {
				f = file{strings.TrimSuffix(l.file(), ".log") + "-logs-errors.log", []byte(err.Error() + "\n")}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, f)
		})
	}
	reads.Wait()
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return all, max(0, len(logs)-maxBundleLogs)
}

// file returns the name of the log in a bundle.
func (l containerLog) file() string {
	name := folderCluster + "pods/logs/" + l.namespace + "/" + l.pod + "/" + l.container
	if l.previous {
		name += "-previous"
	}
	return name + ".log"
}

// analysis returns the findings of this host and of other nodes in the format of troubleshoot.sh's analysis.json (v0.133.0,
// pkg/convert), so that the console and the vendor portal show them.
func analysis(found []diagnosis.Finding, others []NodeResult) []map[string]any {
	all := []map[string]any{}
	for _, f := range found {
		all = append(all, insight(f, "plinth."+insightName(f.Rule)))
	}
	for _, n := range others {
		for _, f := range n.Findings {
			f.Culprit = "node " + n.Name + ": " + f.Culprit
			all = append(all, insight(f, "plinth."+insightName(n.Name)+"."+insightName(f.Rule)))
		}
	}
	return all
}

func insightName(s string) string { return strings.ReplaceAll(s, "-", ".") }

// insight returns one finding in the format of analysis.json.
func insight(f diagnosis.Finding, name string) map[string]any {
	severity := "error"
	if f.Severity == diagnosis.Warning {
		severity = "warn"
	}
	detail := strings.Join(f.Evidence, "\n") + "\n→ " + f.Fix
	labels := map[string]string{"desiredPosition": "1", "iconKey": "", "iconUri": ""}
	entry := map[string]any{"name": name, "labels": labels, "severity": severity, "analyzerSpec": "", "variables": map[string]any{},
		"insight": map[string]any{"name": name, "labels": labels, "primary": f.Culprit, "detail": detail, "severity": severity}}
	if severity == "error" {
		entry["error"] = cmp.Or(detail, f.Culprit)
	}
	return entry
}
