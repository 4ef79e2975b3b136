package support

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/supportbundle"
	"github.com/plinthdev/plinth/internal/supportspec"
)

// Limits of what specs request.
const (
	maxSpecItems    = 500     // files of all specs together
	maxSpecLogs     = 200     // logs of containers of one collector
	maxSpecFiles    = 100     // files or objects of one collector
	specLogBytes    = 4 << 20 // of one container
	defaultLogLines = 10_000  // of troubleshoot.sh (v0.133.0, pkg/collect/logs.go)
	folderMetrics   = "node-metrics/"
)

// reservedNames are those at the root of a bundle that no spec may use.
var reservedNames = []string{"host-collectors", "cluster-resources", "cluster-info", "helm", "support-bundle-specs", "version.yaml", "analysis.json",
	"redactions.json", "left-out.json"}

// addSpecs adds what the specs request, each file at the name that troubleshoot.sh gives it. What has a name that the
// bundle has is left out: the result is there.
func (p packer) addSpecs(ctx context.Context, b *supportbundle.Writer, s diagnosis.Snapshot) {
	for _, f := range p.bundleSpecs() {
		b.Add(f.name, f.content)
	}
	p.addSpecNotes(b)
	var items []item
	names := map[string]bool{}
	add := func(from specSource, more []item) {
		for _, it := range more {
			it.name = path.Clean(it.name)
			file := p.nodes.file(p.nodes.self, it.name)
			switch {
			case names[file] || b.Has(file):
			case len(items) >= maxSpecItems:
				b.LeaveOut(from.name, fmt.Sprintf("%s: the specs request more than %d files", it.name, maxSpecItems))
				return
			default:
				names[file] = true
				items = append(items, it)
			}
		}
	}
	for _, from := range slices.Concat(p.specFiles, p.found) {
		for _, c := range from.specs.Collectors {
			add(from, p.clusterItems(ctx, c, from, s))
		}
		if from.namespace == "" {
			for _, c := range from.specs.HostCollectors {
				add(from, p.specHostItems(ctx, c, s))
			}
		}
	}
	p.addItems(ctx, b, items)
}

// specItem is an item with a name of a spec. A name that Plinth uses itself is an error of the item.
func specItem(name string, collect func(ctx context.Context) ([]byte, error)) item {
	name = path.Clean(name)
	root, _, _ := strings.Cut(name, "/")
	if slices.Contains(reservedNames, root) || root == ".." || root == "." {
		return failedItem(folderSpecs+"files/"+strings.ReplaceAll(name, "/", "-"), fmt.Errorf("%s is a name of Plinth", root))
	}
	return item{name: name, limit: maxLogBytes, collect: collect}
}

// clusterItems returns what a collector in the cluster collects.
func (p packer) clusterItems(ctx context.Context, c supportspec.Collector, from specSource, s diagnosis.Snapshot) []item {
	if c.Kind == "data" {
		return []item{specItem(path.Join(c.Name, c.CollectorName), func(context.Context) ([]byte, error) { return []byte(c.Data), nil })}
	}
	if support := supportspec.ClusterSupport(c.Kind); !support.Collected || support.Covered {
		return nil
	}
	name := c.Kind + "/" + cmp.Or(c.CollectorName, c.Name, "unnamed")
	switch {
	case p.client == nil || s.Cluster == nil || s.Cluster.Partial:
		return []item{failedItem(name, errors.New("the objects of the cluster cannot be read on this host"))}
	case p.secretsErr != nil:
		return []item{failedItem(name, p.secretsErr)}
	}
	switch c.Kind {
	case "logs":
		return p.logItems(c, s.Cluster.Pods)
	case "configMap", "secret":
		return p.objectItems(ctx, c, from)
	}
	return p.nodeMetricItems(c, s.Cluster.Nodes)
}

// logItems returns the logs of the containers that c selects.
func (p packer) logItems(c supportspec.Collector, pods []corev1.Pod) (items []item) {
	selector, err := labels.Parse(strings.Join(c.Selector, ","))
	if err != nil {
		return nil // supportspec has reported it
	}
	o := kube.LogOptions{Lines: cmp.Or(c.Limits.MaxLines, int64(defaultLogLines)), MaxBytes: specLogBytes, Since: c.Limits.SinceTime}
	if age, err := time.ParseDuration(c.Limits.MaxAge); err == nil && o.Since.IsZero() {
		o.Since = p.env.Now().Add(-age)
	}
	if !o.Since.IsZero() {
		o.Lines = 0
	}
	for _, pod := range pods {
		if c.Namespace != "" && pod.Namespace != c.Namespace || !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		for _, container := range containersOf(pod) {
			if len(c.ContainerNames) > 0 && !slices.Contains(c.ContainerNames, container) {
				continue
			}
			name := path.Join(c.Name, pod.Name, container)
			if c.Name == "" { // troubleshoot.sh has all logs there, too
				name = containerLog{pod.Namespace, pod.Name, container, false}.file()
				name = strings.TrimSuffix(name, ".log")
			}
			items = append(items, p.logItem(name+".log", pod, container, o))
			o := o
			if o.Previous = true; restarted(pod, container) {
				items = append(items, p.logItem(name+"-previous.log", pod, container, o))
			}
		}
	}
	return limitItems(items, maxSpecLogs, "logs", cmp.Or(c.Name, folderCluster+"pods/logs"))
}

// limitItems returns the first limit of items, which are what, such as "logs". If there are more, it adds an item that fails
// as name, so that the bundle tells how many are left out.
func limitItems(items []item, limit int, what, name string) []item {
	left := len(items) - limit
	if left <= 0 {
		return items
	}
	return append(items[:limit:limit], failedItem(name, fmt.Errorf("%d %s are left out: one collector collects at most %d", left, what, limit)))
}

func (p packer) logItem(name string, pod corev1.Pod, container string, o kube.LogOptions) item {
	o.Container = container
	collect := func(ctx context.Context) ([]byte, error) {
		lines, err := p.client.PodLog(ctx, pod.Namespace, pod.Name, o)
		return []byte(strings.Join(lines, "\n") + "\n"), err
	}
	if strings.HasPrefix(name, folderCluster) {
		return item{name: name, limit: maxLogBytes, collect: collect}
	}
	return specItem(name, collect)
}

// containersOf returns the names of the containers of a pod, init containers last.
func containersOf(pod corev1.Pod) (names []string) {
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		names = append(names, c.Name)
	}
	return names
}

// restarted reports whether a container of a pod has a log of the time before its last restart.
func restarted(pod corev1.Pod, container string) bool {
	return slices.ContainsFunc(slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses), func(s corev1.ContainerStatus) bool {
		return s.Name == container && s.RestartCount > 0
	})
}

// objectOutput describes a ConfigMap or a Secret as troubleshoot.sh's collectors do.
type objectOutput struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Key       string            `json:"key"`
	ConfigMap *bool             `json:"configMapExists,omitempty"`
	Secret    *bool             `json:"secretExists,omitempty"`
	KeyExists bool              `json:"keyExists"`
	Value     string            `json:"value,omitempty"`
	Data      map[string]string `json:"data,omitempty"`
}

// keyedObject is a ConfigMap, or a Secret without its values.
type keyedObject struct {
	name string
	data map[string]string
}

// objectItems returns what is known of the ConfigMap or the Secret that c names, or of those that it selects. Of a Secret,
// that is whether it exists and has a key: its values are never collected.
func (p packer) objectItems(ctx context.Context, c supportspec.Collector, from specSource) (items []item) {
	namespace := cmp.Or(c.Namespace, from.namespace, metav1.NamespaceDefault)
	folder := path.Join(map[string]string{"configMap": "configmaps", "secret": "secrets"}[c.Kind], namespace)
	found, err := p.listObjects(ctx, c, namespace)
	if err != nil {
		return []item{failedItem(path.Join(folder, cmp.Or(c.Name, c.CollectorName, "selected")), err)}
	}
	outputs := []objectOutput{}
	for _, o := range found {
		outputs = append(outputs, describeObject(c, namespace, o))
	}
	if c.Name != "" && len(found) == 0 {
		missing := objectOutput{Namespace: namespace, Name: c.Name, Key: c.Key}
		missing.setExists(c.Kind, false)
		outputs = append(outputs, missing)
	}
	for _, o := range outputs {
		key := c.Key
		if c.IncludeAllData {
			key = ""
		}
		items = append(items, specItem(path.Join(folder, o.Name, key)+".json", func(context.Context) ([]byte, error) { return json.Marshal(o) }))
	}
	return limitItems(items, maxSpecFiles, "objects", folder)
}

func (o *objectOutput) setExists(kind string, exists bool) {
	if kind == "secret" {
		o.Secret = &exists
	} else {
		o.ConfigMap = &exists
	}
}

// describeObject returns what c requests of an object.
func describeObject(c supportspec.Collector, namespace string, found keyedObject) objectOutput {
	o := objectOutput{Namespace: namespace, Name: found.name, Key: c.Key}
	o.setExists(c.Kind, true)
	value, has := found.data[c.Key]
	o.KeyExists = has
	if c.Kind == "configMap" && c.IncludeValue {
		o.Value = value
	}
	if c.Kind == "configMap" && c.IncludeAllData {
		o.Data = found.data
	}
	return o
}

// listObjects returns the objects that c names or selects in a namespace.
func (p packer) listObjects(ctx context.Context, c supportspec.Collector, namespace string) (found []keyedObject, err error) {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	options := metav1.ListOptions{LabelSelector: strings.Join(c.Selector, ",")}
	if c.Name != "" {
		options = metav1.ListOptions{FieldSelector: "metadata.name=" + c.Name}
	}
	if c.Kind == "secret" {
		list, err := p.client.Core().Secrets(namespace).List(ctx, options)
		if err != nil {
			return nil, err
		}
		for _, s := range list.Items {
			o := keyedObject{s.Name, map[string]string{}}
			for key := range s.Data {
				o.data[key] = ""
			}
			found = append(found, o)
		}
	} else {
		list, err := p.client.Core().ConfigMaps(namespace).List(ctx, options)
		if err != nil {
			return nil, err
		}
		for _, m := range list.Items {
			found = append(found, keyedObject{m.Name, m.Data})
		}
	}
	return slices.DeleteFunc(found, func(o keyedObject) bool { return c.Name != "" && o.name != c.Name }), nil
}

// nodeMetricItems returns the statistics that the kubelets of nodes have.
func (p packer) nodeMetricItems(c supportspec.Collector, nodes []corev1.Node) (items []item) {
	selector, err := labels.Parse(strings.Join(c.Selector, ","))
	if err != nil {
		return nil // supportspec has reported it
	}
	for _, n := range nodes {
		wanted := len(c.NodeNames)+len(c.Selector) == 0 || slices.Contains(c.NodeNames, n.Name) || len(c.Selector) > 0 && selector.Matches(labels.Set(n.Labels))
		if wanted {
			items = append(items, specItem(folderMetrics+n.Name+".json", func(ctx context.Context) ([]byte, error) {
				return p.client.GetRaw(ctx, "/api/v1/nodes/"+n.Name+"/proxy/stats/summary")
			}))
		}
	}
	return items
}

// specHostItems returns what a collector of the host collects.
func (p packer) specHostItems(ctx context.Context, c supportspec.Collector, s diagnosis.Snapshot) []item {
	switch c.Kind {
	case "journald":
		return []item{p.journaldItem(c)}
	case "copy":
		return p.copyItems(ctx, c)
	case "diskUsage":
		for _, d := range s.Host.Disks {
			if d.Path == path.Clean(c.Path) {
				return []item{diskItem(cmp.Or(c.CollectorName, "diskUsage"), d)}
			}
		}
		return []item{failedItem(folderDisks+cmp.Or(c.CollectorName, "diskUsage")+".json", fmt.Errorf("the size of %s is not known", c.Path))}
	}
	return nil
}

// journaldItem returns a log of systemd's journal (v0.133.0, pkg/collect/host_journald.go).
func (p packer) journaldItem(c supportspec.Collector) item {
	argv := []string{"journalctl", "--no-pager", "--quiet", "--lines=" + strconv.Itoa(min(cmp.Or(max(0, c.Lines), mainLogLines), mainLogLines))}
	for flag, set := range map[string]bool{"--system": c.System, "--dmesg": c.Dmesg, "--reverse": c.Reverse, "--utc": c.UTC} {
		if set {
			argv = append(argv, flag)
		}
	}
	for flag, value := range map[string]string{"--since=": cmp.Or(c.Since, "@"+strconv.FormatInt(p.env.Now().Add(-p.since).Unix(), 10)), "--until=": c.Until, "--output=": c.Output} {
		if value != "" {
			argv = append(argv, flag+value)
		}
	}
	for _, u := range c.Units {
		argv = append(argv, "--unit="+u)
	}
	slices.Sort(argv[1:])
	timeout, _ := time.ParseDuration(c.Timeout) // supportspec has checked it
	if timeout <= 0 || timeout > logTimeout {
		timeout = logTimeout
	}
	return item{name: folderJournal + c.CollectorName + ".txt", timeout: timeout, limit: maxLogBytes, collect: func(ctx context.Context) ([]byte, error) {
		out, err := p.env.Host.Run(ctx, host.Cmd{Argv: argv, ReadOnly: true, MaxOutput: maxLogBytes + 1})
		if strings.HasPrefix(c.Output, "json") && bytesField.Match(out) {
			return nil, errors.New("a message in it is not text: secrets in it cannot be found; use another output than " + c.Output)
		}
		return out, err
	}}
}

// bytesField matches a value in journalctl's JSON that is not text: a list of the numbers of its bytes (systemd.io,
// JOURNAL_EXPORT_FORMATS). In a message that has JSON itself, the quote would follow a backslash.
var bytesField = regexp.MustCompile(`[^\\]"\s*:\s*\[\s*\d+\s*[,\]]`)
