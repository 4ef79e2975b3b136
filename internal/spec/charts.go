package spec

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

// Chart is a Helm chart that a vendor adds to the cluster.
type Chart struct {
	// Name of the Helm release, a DNS label of up to 53 characters. It names the chart in after, in the plan and in status.
	Name string `json:"name" required:"true" rule:"chart-name"`
	// Where the chart is: oci://HOST/PATH, https://REPOSITORY/CHART for a chart repository, or a folder or .tgz beside the Installer.
	Chart string `json:"chart" required:"true" rule:"chart-source"`
	// Exact version of the chart, as in its Chart.yaml.
	Version string `json:"version" required:"true" rule:"version-exact/chart"`
	// Namespace of the release. It is created if it does not exist.
	Namespace string `json:"namespace" required:"true" rule:"dns-label"`
	// Values of the chart. They replace those of valuesFile key by key.
	Values map[string]any `json:"values,omitempty"`
	// File with values, beside the Installer. The bundle carries its content in values.
	ValuesFile string `json:"valuesFile,omitempty" rule:"chart-file"`
	// Charts by name, and add-ons by their key below spec, that are ready before this chart is installed.
	After []string `json:"after,omitempty"`
	// How long the install waits until the chart is ready, such as 90s or 10m.
	Timeout string `json:"timeout" default:"5m" rule:"chart-timeout"`
	// Whether an install fails if the chart does not become ready in time. If false, it warns and continues.
	Strict bool `json:"strict" default:"true"`
	// Images that the chart needs and that its manifests do not name, such as those that an operator starts later.
	AdditionalImages []string `json:"additionalImages,omitempty" rule:"chart-image"`
}

// Limits of spec.charts.
const (
	maxReleaseName  = 53 // of Helm, which appends to the name
	minChartTimeout = time.Second
	maxChartTimeout = 2 * time.Hour
)

// chartsPath is the path of the list of charts.
const chartsPath = "spec.charts"

// chartRules returns the rules of spec.charts.
func chartRules() []Rule {
	// Objects of a chart have no line of their own in the Installer.
	fail := func(id, summary string) Rule { return Rule{ID: id, Severity: Error, Summary: summary, Repeats: true} }
	warn := func(id, summary string) Rule { return Rule{ID: id, Severity: Warning, Summary: summary, Repeats: true} }
	return []Rule{
		fail("chart-name", "The name of a chart is a DNS label of up to 53 characters that no other chart and no add-on of Plinth has."),
		fail("chart-source", "A chart is oci://HOST/PATH, https://REPOSITORY/CHART, or a path relative to the Installer."),
		fail("chart-file", "The file with values of a chart is a path relative to the Installer; a bundle carries no such file."),
		fail("chart-after", "after names charts and installed add-ons, without a cycle."),
		fail("chart-timeout", "The timeout of a chart is a duration between 1s and 2h, such as 90s or 10m."),
		fail("chart-image", "An additional image is a full reference: registry, repository, and an exact tag or a digest."),
		fail("chart-read", "A chart can be read, has the pinned version, is an application chart, and contains all its dependencies."),
		fail("chart-values", "The values of a chart are a mapping, fit the chart's values.schema.json, and have at most 512 KiB."),
		fail("chart-render", "A chart renders with its values and the pinned Kubernetes, which its kubeVersion allows."),
		fail("chart-field", "The objects of a chart have a kind, an apiVersion, a name, and fields of the types that Kubernetes accepts."),
		fail("chart-size", "The release of a chart fits the 1 MiB of the Secret in which Helm stores it."),
		fail("chart-removed-api", "A chart contains no object of an API version that the pinned Kubernetes does not serve any more."),
		fail("chart-port", "A host port or node port of a chart is not used by Plinth, its add-ons, Kubernetes or another chart, node ports are in nodePortRange, and no two services share one."),
		fail("chart-object", "An object of a chart is not one that k0s, Kubernetes, an add-on of Plinth or another chart creates, too."),
		fail("chart-namespace", "The namespace of a chart is not that of an add-on of Plinth in the Installer, except the console's."),
		warn("chart-system-namespace", "A chart should not be in a namespace of Kubernetes: installs and upgrades wait for all pods of kube-system."),
		warn("chart-kind", "The pinned Kubernetes, the chart, or a chart before it should define every kind of the chart's objects."),
		warn("chart-privileged", "Pods of a chart should not be privileged or use namespaces, folders or devices of the host."),
		warn("chart-image-tag", "Images of a chart should have an exact tag other than latest, or a digest."),
		warn("chart-autoscaler", "Without metrics-server, nothing tells a HorizontalPodAutoscaler of CPU and memory, unless a chart before it brings another one."),
		warn("chart-image-pull", "Containers should not pull always: without the registry, such a pod does not start."),
		warn("chart-image-unknown", "What looks like an image of a chart should be in the bundle: name it in additionalImages if pods use it."),
		warn("chart-unchecked", "A chart is checked if it is beside the Installer or in the cache of downloads, and its values if its schema refers to no other document: lint uses no network."),
	}
}

// ChartOrigin says how a chart is obtained.
type ChartOrigin int

// The origins of charts.
const (
	LocalChart    ChartOrigin = iota // a folder or .tgz beside the Installer
	RegistryChart                    // oci://
	RepoChart                        // a chart repository over https
)

// Origin returns how the chart is obtained.
func (c Chart) Origin() ChartOrigin {
	switch {
	case strings.HasPrefix(c.Chart, "oci://"):
		return RegistryChart
	case strings.Contains(c.Chart, "://"):
		return RepoChart
	}
	return LocalChart
}

// Repository returns the URL of the chart repository and the name of the chart in it, for a RepoChart.
func (c Chart) Repository() (repo, name string) {
	i := strings.LastIndex(c.Chart, "/")
	return c.Chart[:i], c.Chart[i+1:]
}

// Wait returns how long the install waits for the chart.
func (c Chart) Wait() time.Duration {
	d, _ := time.ParseDuration(cmp.Or(c.Timeout, "5m")) // lint has parsed it
	return d
}

// checkChartValue is CheckValue for the rules of spec.charts.
func checkChartValue(rule, value string) (message, hint string) {
	switch rule {
	case "version-exact/chart":
		if _, err := semver.StrictNewVersion(strings.TrimPrefix(value, "v")); err != nil || len(value) > 64 {
			return strictyaml.QuoteValue(value) + " is not an exact version", "write the version of the chart, such as 1.2.3"
		}
	case "chart-name":
		if !isDNSLabel(value) {
			return strictyaml.QuoteValue(value) + " is not a DNS label", suggestDNSLabel(value)
		}
		if len(value) > maxReleaseName {
			return fmt.Sprintf("%s has %d characters", strictyaml.QuoteValue(value), len(value)), fmt.Sprintf("Helm allows %d", maxReleaseName)
		}
	case "chart-source":
		return checkChartSource(value)
	case "chart-file":
		return checkChartPath(value)
	case "chart-timeout":
		if d, err := time.ParseDuration(value); err != nil || d < minChartTimeout || d > maxChartTimeout {
			return strictyaml.QuoteValue(value) + " is not a duration between 1s and 2h", "such as 90s or 10m"
		}
	case "chart-image":
		if !imageReference.MatchString(value) || len(value) > 512 {
			return strictyaml.QuoteValue(value) + " is not a full image reference", "such as docker.io/library/busybox:1.37.0"
		}
	}
	return "", ""
}

// imageReference matches an image reference with a registry and a tag or digest.
var imageReference = regexp.MustCompile(`^(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+)(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$`)

// repositoryPath matches the path of a repository in a registry.
var repositoryPath = regexp.MustCompile(`^(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$`)

// checkChartSource checks the reference of a chart.
func checkChartSource(value string) (message, hint string) {
	scheme, _, remote := strings.Cut(value, "://")
	if !remote {
		return checkChartPath(value)
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || len(value) > 1024:
		return "is not a URL of a chart", "such as oci://registry.example.com/charts/traefik"
	case u.User != nil:
		return "has a user or a password", "log in with docker login instead"
	case scheme == "oci" && !repositoryPath.MatchString(u.Path):
		return strictyaml.QuoteValue(value) + " is not a repository in a registry", "such as oci://registry.example.com/charts/traefik; the version is in the key version"
	case scheme == "oci":
		return "", ""
	case scheme != "https" && (scheme != "http" || !isLoopback(u.Hostname())):
		return strictyaml.QuoteValue(value) + " is not oci:// or https://", "a path relative to the Installer is possible, too"
	case strings.HasSuffix(u.Path, ".tgz"):
		return strictyaml.QuoteValue(value) + " is an archive", "write the URL of the repository with the name of the chart: https://charts.example.com/stable/traefik"
	case path.Base(u.Path) == "/" || path.Base(u.Path) == "." || strings.HasSuffix(u.Path, "/"):
		return strictyaml.QuoteValue(value) + " does not end with the name of a chart", "such as https://charts.example.com/stable/traefik"
	}
	return "", ""
}

// isLoopback reports whether host is this machine, to which plain http is allowed.
func isLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// checkChartPath checks a path relative to the Installer.
func checkChartPath(value string) (message, hint string) {
	switch {
	case strings.HasPrefix(value, "/") || strings.HasPrefix(value, "~"):
		return strictyaml.QuoteValue(value) + " is an absolute path", "write it relative to the Installer, such as ./charts/my-chart"
	case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' }):
		return strictyaml.QuoteValue(value) + " is not a path", "such as ./charts/my-chart"
	}
	return "", ""
}

// AddOnKeys returns the keys below spec of all add-ons of Plinth that an Installer can have.
func AddOnKeys() []string {
	some := &AddOn{}
	all := Installer{Spec: Spec{Kotsadm: &Kotsadm{}, LocalPathStorage: some, LoadBalancer: &LoadBalancer{}, Ingress: &Ingress{}, Registry: some, Velero: &Velero{}, Prometheus: &Prometheus{}}}
	var keys []string
	for _, pin := range all.AddOns() {
		keys = append(keys, pin.Key)
	}
	return keys
}

// SystemNamespaces returns the namespaces that Kubernetes creates for itself.
func SystemNamespaces() []string { return []string{"kube-system", "kube-public", "kube-node-lease"} }

// checkCharts checks what the charts need of each other and of the add-ons.
func (r reader) checkCharts(in *Installer) {
	first := map[string]int{}
	for i, c := range in.Spec.Charts {
		at := fmt.Sprintf("%s[%d]", chartsPath, i)
		if j, taken := first[c.Name]; taken && c.Name != "" {
			r.Report("chart-name", at+".name", r.NodeAt(at+".name"), fmt.Sprintf("%s is the name of %s[%d], too", strictyaml.QuoteValue(c.Name), chartsPath, j), "every chart needs its own name")
		} else {
			first[c.Name] = i
		}
		if slices.Contains(AddOnKeys(), c.Name) {
			r.Report("chart-name", at+".name", r.NodeAt(at+".name"), strictyaml.QuoteValue(c.Name)+" is an add-on of Plinth", "choose another name, such as my-"+c.Name)
		}
		if slices.Contains(SystemNamespaces(), c.Namespace) {
			r.Report("chart-system-namespace", at+".namespace", r.NodeAt(at+".namespace"), c.Namespace+" is a namespace of Kubernetes: if a pod of the chart is not ready, no upgrade gets as far as the chart to repair it",
				"use another one, such as "+c.Name+", unless the chart works in no other")
		}
	}
	r.checkChartOrder(in, first)
}

// checkChartOrder checks that after names what is installed, and has no cycle. index has the charts by name.
func (r reader) checkChartOrder(in *Installer, index map[string]int) {
	installed := map[string]bool{}
	for _, pin := range in.AddOns() {
		installed[pin.Key] = true
	}
	for i, c := range in.Spec.Charts {
		for j, name := range c.After {
			at := fmt.Sprintf("%s[%d].after[%d]", chartsPath, i, j)
			_, isChart := index[name]
			switch {
			case isChart || installed[name]:
			case slices.Contains(AddOnKeys(), name):
				r.Report("chart-after", at, r.findNode(at), "the Installer has no spec."+name, "add it, or remove it from after")
			default:
				r.Report("chart-after", at, r.findNode(at), "there is no chart and no add-on called "+strictyaml.QuoteValue(name), "charts are named by their name, add-ons by their key below spec")
			}
		}
	}
	for _, cycle := range findCycles(in.Spec.Charts, index) {
		at := fmt.Sprintf("%s[%d].after", chartsPath, index[cycle[0]])
		r.Report("chart-after", at, r.findNode(at), "is a cycle: "+strings.Join(append(cycle, cycle[0]), " → "), "a chart cannot wait for itself")
	}
}

// findCycles returns each cycle in the order of charts once, beginning with its first chart in the Installer.
func findCycles(charts []Chart, index map[string]int) (cycles [][]string) {
	done := map[string]bool{} // charts whose cycles are all found
	var visit func(name string, above []string)
	visit = func(name string, above []string) {
		if i := slices.Index(above, name); i >= 0 {
			cycle := above[i:]
			low := slices.Index(cycle, slices.MinFunc(cycle, func(a, b string) int { return index[a] - index[b] }))
			cycles = append(cycles, slices.Concat(cycle[low:], cycle[:low]))
			return
		}
		i, isChart := index[name]
		if !isChart || done[name] {
			return
		}
		for _, before := range charts[i].After {
			visit(before, append(slices.Clone(above), name))
		}
		done[name] = true
	}
	for _, c := range charts {
		visit(c.Name, nil)
	}
	return cycles
}

// SortedCharts returns the charts in the order of installation: each follows those that its after names, and
// otherwise in the order of the Installer.
func (s Spec) SortedCharts() []Chart {
	var sorted []Chart
	done := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		i := slices.IndexFunc(s.Charts, func(c Chart) bool { return c.Name == name })
		if i < 0 || done[name] {
			return
		}
		done[name] = true
		for _, before := range s.Charts[i].After {
			add(before)
		}
		sorted = append(sorted, s.Charts[i])
	}
	for _, c := range s.Charts {
		add(c.Name)
	}
	return sorted
}
