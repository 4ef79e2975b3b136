package supportspec

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

// Collector is what a vendor wants to have collected. It has the fields of all kinds that Plinth carries out.
type Collector struct {
	Kind string `json:"-"` // such as "logs"
	From string `json:"-"` // where it is requested, such as "spec.collectors[0]"

	CollectorName string   `json:"collectorName"`
	Exclude       any      `json:"exclude"`
	Name          string   `json:"name"`      // logs, data: folder in the bundle; configMap, secret: of the object
	Selector      []string `json:"selector"`  // logs, configMap, secret, nodeMetrics
	Namespace     string   `json:"namespace"` // logs, configMap, secret
	Key           string   `json:"key"`       // configMap, secret

	ContainerNames []string `json:"containerNames"` // logs
	Limits         struct {
		MaxAge    string    `json:"maxAge"`
		MaxLines  int64     `json:"maxLines"`
		SinceTime time.Time `json:"sinceTime"`
	} `json:"limits"`

	IncludeValue   bool     `json:"includeValue"` // configMap
	IncludeAllData bool     `json:"includeAllData"`
	Data           string   `json:"data"`      // data
	NodeNames      []string `json:"nodeNames"` // nodeMetrics

	Path    string   `json:"path"`  // copy, diskUsage
	Units   []string `json:"units"` // journald
	System  bool     `json:"system"`
	Dmesg   bool     `json:"dmesg"`
	Since   string   `json:"since"`
	Until   string   `json:"until"`
	Output  string   `json:"output"`
	Lines   int      `json:"lines"`
	Reverse bool     `json:"reverse"`
	UTC     bool     `json:"utc"`
	Timeout string   `json:"timeout"`
}

// Support is what Plinth does about a kind of collectors.
type Support struct {
	Collected bool   // Plinth carries it out, or every bundle has its result
	Covered   bool   // every bundle has its result
	Reason    string // why Plinth does not carry it out
}

// Reasons why Plinth does not carry a collector out.
const (
	startsPod   = "it starts a pod"
	runsProgram = "it runs a program"
	connects    = "it connects to another service"
	bindsPort   = "it binds a port"
	writesDisk  = "it writes to a disk"
	notBuilt    = "Plinth has no such collector"
)

var (
	covered   = Support{Collected: true, Covered: true}
	collected = Support{Collected: true}
)

// clusterKinds are the collectors in a cluster (troubleshoot.sh v0.133.0, pkg/apis/troubleshoot/v1beta2/collector_shared.go).
var clusterKinds = map[string]Support{
	"clusterInfo": covered, "clusterResources": covered, "helm": covered,
	"logs": collected, "configMap": collected, "secret": collected, "data": collected, "nodeMetrics": collected,
	"run": {Reason: startsPod}, "runPod": {Reason: startsPod}, "runDaemonSet": {Reason: startsPod}, "copyFromHost": {Reason: startsPod}, "sysctl": {Reason: startsPod},
	"collectd": {Reason: startsPod}, "goldpinger": {Reason: startsPod}, "dns": {Reason: startsPod},
	"exec": {Reason: runsProgram}, "copy": {Reason: runsProgram}, "ceph": {Reason: runsProgram}, "etcd": {Reason: runsProgram},
	"http": {Reason: connects}, "postgres": {Reason: connects}, "mysql": {Reason: connects}, "mssql": {Reason: connects}, "redis": {Reason: connects},
	"clickhouse": {Reason: connects}, "registryImages": {Reason: connects}, "s3Status": {Reason: connects},
	"longhorn": {Reason: notBuilt}, "customMetrics": {Reason: notBuilt}, "certificates": {Reason: notBuilt}, "sonobuoy": {Reason: notBuilt},
	"supportBundleMetadata": {Reason: notBuilt},
}

// hostKinds are the collectors of a host (hostcollector_shared.go).
var hostKinds = map[string]Support{
	"cpu": covered, "memory": covered, "time": covered, "hostOS": covered,
	"journald": collected, "copy": collected, "diskUsage": collected,
	"run": {Reason: runsProgram}, "filesystemPerformance": {Reason: writesDisk},
	"tcpPortStatus": {Reason: bindsPort}, "udpPortStatus": {Reason: bindsPort}, "tcpLoadBalancer": {Reason: bindsPort}, "httpLoadBalancer": {Reason: bindsPort},
	"networkNamespaceConnectivity": {Reason: bindsPort},
	"http":                         {Reason: connects}, "tcpConnect": {Reason: connects}, "dns": {Reason: connects}, "registryImages": {Reason: connects},
	"kubernetes": {Reason: notBuilt}, "ipv4Interfaces": {Reason: notBuilt}, "subnetAvailable": {Reason: notBuilt}, "blockDevices": {Reason: notBuilt},
	"systemPackages": {Reason: notBuilt}, "kernelModules": {Reason: notBuilt}, "certificate": {Reason: notBuilt}, "certificatesCollection": {Reason: notBuilt},
	"hostServices": {Reason: notBuilt}, "kernelConfigs": {Reason: notBuilt}, "cgroups": {Reason: notBuilt}, "sysctl": {Reason: notBuilt},
}

// ClusterSupport returns what Plinth does about a kind of collectors in a cluster.
func ClusterSupport(kind string) Support { return clusterKinds[kind] }

// HostSupport returns what Plinth does about a kind of collectors of a host.
func HostSupport(kind string) Support { return hostKinds[kind] }

// ClusterKinds returns the collectors in a cluster that Plinth knows, sorted.
func ClusterKinds() []string { return slices.Sorted(maps.Keys(clusterKinds)) }

// HostKinds returns the collectors of a host that Plinth knows, sorted.
func HostKinds() []string { return slices.Sorted(maps.Keys(hostKinds)) }

// parseCollectors returns the collectors in a document with collectors.
func (d document) parseCollectors(kind string) (s Specs) {
	d.CheckStructure(d.root, false)
	d.checkDocument()
	_, body := strictyaml.Child(d.root, "spec")
	if body == nil || isNull(body) {
		d.Report("required", "spec", d.root, "is missing", "")
		return s
	}
	if !d.checkType("spec", body, mapping) {
		return s
	}
	d.checkFields("spec", body, specFields)
	onHost := kind == "HostCollector" // its list has the name of that in a cluster
	s.HostCollectors = d.parseList(body, "hostCollectors", true)
	if listed := d.parseList(body, "collectors", onHost); onHost {
		s.HostCollectors = append(s.HostCollectors, listed...)
	} else {
		s.Collectors = listed
	}
	if _, uri := strictyaml.Child(body, "uri"); uri != nil && uri.Kind == yaml.ScalarNode && uri.Value != "" {
		s.URIs = []string{uri.Value}
	}
	var doc map[string]any
	if kind == "SupportBundle" && d.root.Decode(&doc) == nil {
		s.Bundles = []any{doc}
	}
	return s
}

// parseList returns the collectors in the list at a key of body, whose type has been checked; host says that they are those
// of a host.
func (d document) parseList(body *yaml.Node, key string, host bool) (all []Collector) {
	_, list := strictyaml.Child(body, key)
	if list == nil || list.Kind != yaml.SequenceNode {
		return nil
	}
	for i, item := range list.Content {
		at := fmt.Sprintf("spec.%s[%d]", key, i)
		if item.Kind != yaml.MappingNode {
			continue
		}
		named := false
		for j := 0; j+1 < len(item.Content); j += 2 {
			name, settings := item.Content[j], item.Content[j+1]
			if isNull(settings) && len(item.Content) > 2 {
				continue
			}
			named = true
			c, ok := d.parseCollector(at, name, settings, host)
			if ok && !c.isExcluded() {
				all = append(all, c)
			}
		}
		if !named {
			d.Report("required", at, item, "names no collector", "remove it, or write it like - "+map[bool]string{true: "cpu: {}", false: "clusterInfo: {}"}[host])
		}
	}
	return all
}

// parseCollector returns the collector of the kind name with settings; ok is false if it cannot be used.
func (d document) parseCollector(at string, name, settings *yaml.Node, host bool) (c Collector, ok bool) {
	kinds := clusterKinds
	if host {
		kinds = hostKinds
	}
	at = strictyaml.JoinPath(at, name.Value)
	support, known := kinds[name.Value]
	if !known {
		d.Report("unknown-key", at, name, "is not a collector that troubleshoot.sh has here", suggest(name.Value, "collectors", slices.Sorted(maps.Keys(kinds))...))
		return c, false
	}
	c.Kind, c.From = name.Value, at
	if !d.checkType(at, settings, mapping) {
		return c, false
	}
	if !support.Collected || support.Covered {
		return c, true
	}
	ok = d.checkSettings(at, settings, c.Kind)
	var value any
	raw, err := []byte(nil), settings.Decode(&value)
	if err == nil {
		raw, err = json.Marshal(value)
	}
	if err == nil {
		err = json.Unmarshal(raw, &c) // after a value of a wrong type, it reads the others
	}
	if err != nil && ok {
		d.Report("wrong-type", at, settings, "cannot be read: "+err.Error(), "")
	}
	if wrong := (*json.UnmarshalTypeError)(nil); err != nil && !errors.As(err, &wrong) {
		return c, false
	}
	return c, d.checkCollector(at, settings, c, host) && ok && err == nil
}

// checkSettings reports settings of a collector that are not known or have another type; ok is false if they cannot be used.
func (d document) checkSettings(at string, settings *yaml.Node, kind string) (ok bool) {
	known := maps.Clone(collectorFields[kind])
	maps.Copy(known, commonFields)
	ok = d.checkFields(at, settings, known)
	for name, want := range collectorFields[kind] {
		if _, n := strictyaml.Child(settings, name); want == mapping && n != nil && n.Kind == yaml.MappingNode {
			ok = d.checkFields(strictyaml.JoinPath(at, name), n, collectorFields[kind+"."+name]) && ok
		}
	}
	return ok
}

// checkCollector reports what is wrong in the settings of a collector; host says that it is one of a host.
func (d document) checkCollector(at string, n *yaml.Node, c Collector, host bool) (ok bool) {
	ok = true
	wrong := func(field, message, hint string) {
		if ok = false; !d.HasError(at + "." + field) { // else its value was not read
			d.Report("wrong-type", at+"."+field, fieldNode(n, field), message, hint)
		}
	}
	if _, err := labels.Parse(strings.Join(c.Selector, ",")); err != nil {
		wrong("selector", "is not a label selector", "write it like app=my-app")
	}
	for field, text := range map[string]string{"timeout": c.Timeout, "limits.maxAge": c.Limits.MaxAge} {
		if _, err := time.ParseDuration(text); text != "" && err != nil {
			wrong(field, "is not a duration", "write it like 30s or 24h")
		}
	}
	for field, name := range map[string]string{"name": c.Name, "collectorName": c.CollectorName} {
		if isFile := c.Kind != "configMap" && c.Kind != "secret"; isFile && name != "" && !isLocal(name) {
			wrong(field, "is not a name in the bundle", "use a name without ..")
		}
	}
	switch {
	case (c.Kind == "configMap" || c.Kind == "secret") && c.Name == "" && len(c.Selector) == 0:
		wrong("name", "is missing", "give a name or a selector")
	case c.Kind == "data" && c.CollectorName == "" && c.Name == "":
		wrong("name", "is missing", "")
	case c.Kind == "journald" && c.CollectorName == "":
		wrong("collectorName", "is missing", "")
	case host && c.Path == "" && c.Kind != "journald", host && c.Path != "" && !path.IsAbs(c.Path):
		wrong("path", "is not an absolute path", "")
	}
	if _, err := path.Match(path.Base(c.Path), ""); host && err != nil {
		wrong("path", "is not a pattern of names", "write it like /var/log/my-app/*.log")
	}
	return ok
}

// isLocal reports whether name is a path in the bundle.
func isLocal(name string) bool {
	return !path.IsAbs(name) && !slices.Contains(strings.Split(name, "/"), "..")
}

// isExcluded reports whether the vendor has turned the collector off: exclude is true or "true".
func (c Collector) isExcluded() bool { return fmt.Sprint(c.Exclude) == "true" }
