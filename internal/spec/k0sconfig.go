package spec

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

const k0sConfigPath = "spec.k0s.config"

// DefaultWorkerProfile is the worker profile of k0s that nodes use unless the Installer selects another.
const DefaultWorkerProfile = "default"

// Profile returns the worker profile that every node uses.
func (k K0s) Profile() string { return cmp.Or(k.WorkerProfile, DefaultWorkerProfile) }

// ClusterDomain returns the DNS domain of the cluster's services, that of k0s unless the overlay sets
// another.
func (k K0s) ClusterDomain() string {
	domain, _ := k.overlayValue("spec", "network", "clusterDomain").(string)
	return cmp.Or(domain, "cluster.local")
}

// overlayValue returns the value at a path of keys in the overlay; nil if it has none.
func (k K0s) overlayValue(path ...string) any {
	at := any(k.Config)
	for _, key := range path {
		m, _ := at.(map[string]any)
		at = m[key]
	}
	return at
}

// checkK0sConfig checks the top-level keys of the overlay, the fields that it sets against the table
// of K0sFields, and its worker profiles. The types of k0s validate the rest.
func (r reader) checkK0sConfig(k K0s) {
	root := r.NodeAt(k0sConfigPath)
	_, spec := strictyaml.Child(root, "spec")
	if root != nil && root.Kind == yaml.MappingNode {
		known := []string{"apiVersion", "kind", "metadata", "spec", "status"}
		for i := 0; i+1 < len(root.Content); i += 2 {
			if key := root.Content[i]; key.Kind == yaml.ScalarNode && !slices.Contains(known, key.Value) {
				r.Report("k0s-config", strictyaml.JoinPath(k0sConfigPath, key.Value), key, "is not a key of a ClusterConfig", "settings belong below "+k0sConfigPath+".spec")
			}
		}
		if spec != nil && spec.Kind != yaml.MappingNode && !isNull(spec) {
			r.Report("wrong-type", k0sConfigPath+".spec", spec, "must be a mapping, found "+strictyaml.DescribeNode(spec), "")
		}
		r.checkK0sFields("", k0sConfigPath, root)
	}
	_, profiles := strictyaml.Child(spec, "workerProfiles")
	r.checkWorkerProfiles(profiles, k.Profile())
}

// isNull reports whether n has no value. k0s reads null as a request for its own defaults; the
// overlay counts it as absent.
func isNull(n *yaml.Node) bool { return n.ShortTag() == "!!null" }

// checkK0sFields reports what the table of fields says about each one below n. field is the path of n
// in a ClusterConfig, as in the table, and at its path in the Installer.
func (r reader) checkK0sFields(field, at string, n *yaml.Node) {
	if n.Kind == yaml.SequenceNode {
		for i, item := range n.Content {
			r.checkK0sFields(field+"[]", fmt.Sprintf("%s[%d]", at, i), item)
		}
		return
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || isNull(value) {
			continue
		}
		below, path := strings.TrimPrefix(field+"."+key.Value, "."), strictyaml.JoinPath(at, key.Value)
		scalar := value.Value
		if value.ShortTag() == "!!bool" {
			scalar = strings.ToLower(scalar)
		}
		r.checkTextList(below, path, value)
		row := findK0sField(below, scalar)
		switch row.Treatment {
		case Owned:
			if row.Value != "" {
				r.Report("k0s-config", path, value, strictyaml.QuoteValue(value.Value)+" is not allowed", row.Reason)
			} else {
				r.Report("k0s-config", path, key, "this field is reserved for Plinth", row.Reason)
			}
		case Warned:
			r.Report("k0s-config-effect", path, key, row.Reason, "")
		default:
			r.checkFlags(below, path, value)
			r.checkK0sFields(below, path, value)
		}
	}
}

// checkFlags checks the names of the flags in an extraArgs, the field at below in a ClusterConfig and at path
// in the Installer. k0s starts the component with "--KEY=VALUE"; it ends at once if a flag is unknown.
func (r reader) checkFlags(below, path string, flags *yaml.Node) {
	if !strings.HasSuffix(below, ".extraArgs") || flags.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(flags.Content); i += 2 {
		key := flags.Content[i]
		if key.Kind != yaml.ScalarNode || flagName.MatchString(key.Value) {
			continue
		}
		hint := "write a flag without --, in a-z, 0-9 and -"
		if name := strings.ToLower(strings.Trim(FlagName(key.Value), "- ")); flagName.MatchString(name) {
			hint = fmt.Sprintf("did you mean %q?", name)
		}
		r.Report("k0s-config", strictyaml.JoinPath(path, key.Value), key, strictyaml.QuoteValue(key.Value)+" is not the name of a flag", hint)
	}
}

// flagName matches the names of the flags of Kubernetes components, with "_" for "-" as they allow.
var flagName = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// textLists are the fields of a ClusterConfig that are lists of text.
var textLists = []string{"spec.api.sans", "spec.network.kubeProxy.nodePortAddresses", "spec.network.kubeProxy.ipvs.excludeCIDRs", "spec.featureGates[].components"}

// checkTextList checks that every entry of a list of text is text, which k0s reports without its place.
func (r reader) checkTextList(below, path string, list *yaml.Node) {
	if !slices.Contains(textLists, below) || list.Kind != yaml.SequenceNode {
		return
	}
	for i, item := range list.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case item.ShortTag() != "!!str":
			r.Report("k0s-config", at, item, "must be text, found "+strictyaml.DescribeNode(item), "")
		case item.Value == "":
			r.Report("k0s-config", at, item, "is empty", "")
		}
	}
}

// checkWorkerProfiles checks that the nodes use one of the worker profiles of the overlay, and each of
// these. k0s does not check names and values before it writes them into the cluster; if it cannot, no
// node gets a configuration (k0s 1.33, pkg/component/controller/workerconfig).
func (r reader) checkWorkerProfiles(profiles *yaml.Node, used string) {
	const list, selector = k0sConfigPath + ".spec.workerProfiles", "spec.k0s.workerProfile"
	var names []string // "" for a profile without one
	for i := 0; profiles != nil && profiles.Kind == yaml.SequenceNode && i < len(profiles.Content); i++ {
		item, path := profiles.Content[i], fmt.Sprintf("%s[%d]", list, i)
		r.checkWorkerProfile(path, item)
		name := &yaml.Node{}
		if _, n := strictyaml.Child(item, "name"); n != nil {
			name = n
		}
		if slices.Contains(names, name.Value) && name.Value != "" {
			r.Report("k0s-config", path+".name", name, "a profile above has the same name; k0s uses only one of them", "write all settings into one profile")
		}
		names = append(names, name.Value)
	}
	if used != DefaultWorkerProfile && !slices.Contains(names, used) {
		r.Report("worker-profile", selector, r.NodeAt(selector), strictyaml.QuoteValue(used)+" is not a profile of "+list,
			"known profiles: "+strings.Join(slices.Compact(slices.Sorted(slices.Values(append(names, DefaultWorkerProfile)))), ", "))
		return
	}
	for i, name := range names {
		if name != used && name != "" {
			path := fmt.Sprintf("%s[%d].name", list, i)
			r.Report("worker-profile-unused", path, r.findNode(path), "no node uses this profile: they use "+strconv.Quote(used), "select it with "+selector)
		}
	}
}

// checkWorkerProfile checks the worker profile item, whose path is path.
func (r reader) checkWorkerProfile(path string, item *yaml.Node) {
	_, name := strictyaml.Child(item, "name")
	if name == nil || isNull(name) {
		r.Report("k0s-config", path, item, "has no name", "nodes use the profile "+DefaultWorkerProfile)
	} else if !isProfileName(name.Value) {
		r.Report("k0s-config", path+".name", name, strictyaml.QuoteValue(name.Value)+" cannot be part of the name of a ConfigMap", "use up to 63 of a-z, 0-9, - and .")
	}
	_, values := strictyaml.Child(item, "values")
	if values == nil || isNull(values) {
		r.Report("k0s-config", path, item, "has no values", "write the settings of kubelet below values")
		return
	}
	if values.Kind != yaml.MappingNode {
		r.Report("k0s-config", path+".values", values, "must be a mapping, found "+strictyaml.DescribeNode(values), "")
		return
	}
	for i := 0; i+1 < len(values.Content); i += 2 {
		r.checkKubeletSetting(strictyaml.JoinPath(path+".values", values.Content[i].Value), values.Content[i], values.Content[i+1])
	}
}

// isProfileName reports whether name can be part of the name of a ConfigMap and the value of a label.
func isProfileName(name string) bool {
	return len(name) <= 63 && !slices.ContainsFunc(strings.Split(name, "."), func(label string) bool { return !isDNSLabel(label) })
}
