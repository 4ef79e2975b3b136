package probe

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// kernelFeature describes how the presence of a kernel feature can be detected.
type kernelFeature struct {
	name   string
	module string // "" if it cannot be a module; a second name is that of older kernels
	config string // without CONFIG_; a second name likewise
	file   string // exists only if the feature is active
}

// nodeFeatures returns the features that a k0s node with kube-router and
// kube-proxy needs.
func nodeFeatures() []kernelFeature {
	return []kernelFeature{
		{"overlay", "overlay", "OVERLAY_FS", ""},
		{"bridge", "bridge", "BRIDGE", "/sys/module/bridge"},
		{"br_netfilter", "br_netfilter", "BRIDGE_NETFILTER", "/proc/sys/net/bridge/bridge-nf-call-iptables"},
		{"veth", "veth", "VETH", ""},
		{"vxlan", "vxlan", "VXLAN", "/sys/module/vxlan"},
		{"nf_conntrack", "nf_conntrack", "NF_CONNTRACK", "/proc/sys/net/netfilter/nf_conntrack_max"},
		{"nf_nat", "nf_nat", "NF_NAT", ""},
		{"nf_tables", "nf_tables", "NF_TABLES", ""},
		{"nft_compat", "nft_compat", "NFT_COMPAT", ""},
		{"ip_tables", "ip_tables", "IP_NF_IPTABLES", "/proc/net/ip_tables_names"},
		{"ip_set", "ip_set", "IP_SET", "/sys/module/ip_set"},
		{"xt_set", "xt_set", "NETFILTER_XT_SET", ""},
		{"xt_comment", "xt_comment", "NETFILTER_XT_MATCH_COMMENT", ""},
		{"xt_conntrack", "xt_conntrack", "NETFILTER_XT_MATCH_CONNTRACK", ""},
		{"xt_mark", "xt_mark", "NETFILTER_XT_MARK", ""},
		{"xt_statistic", "xt_statistic", "NETFILTER_XT_MATCH_STATISTIC", ""},
		{"xt_MASQUERADE", "xt_MASQUERADE ipt_MASQUERADE", "NETFILTER_XT_TARGET_MASQUERADE IP_NF_TARGET_MASQUERADE", ""},
		{"net_ns", "", "NET_NS", "/proc/self/ns/net"},
		{"pid_ns", "", "PID_NS", "/proc/self/ns/pid"},
		{"ipc_ns", "", "IPC_NS", "/proc/self/ns/ipc"},
		{"uts_ns", "", "UTS_NS", "/proc/self/ns/uts"},
	}
}

// KernelEvidence is all that a host reports about the features of its kernel.
type KernelEvidence struct {
	Filesystems []byte       // /proc/filesystems
	Loaded      []byte       // /proc/modules
	Builtin     []byte       // modules.builtin
	OnDisk      []byte       // modules.dep; nil if this kernel has no module directory
	Modprobe    []configFile // files of modprobe.d, in the order in which they are read
	CommandLine []byte       // of the kernel
	Locked      bool         // kernel.modules_disabled is 1: no module can be loaded until the next boot
	Config      []byte       // the kernel's configuration
	ConfigFrom  string       // the file of Config
	Exists      func(path string) bool
}

// detectKernelFeatures returns the state of each feature that a k0s node needs,
// and of the modules named by others.
func detectKernelFeatures(e KernelEvidence, others ...string) []facts.Feature {
	w := parsedEvidence{
		KernelEvidence: e,
		filesystems:    parseFilesystems(e.Filesystems), loaded: parseModuleNames(e.Loaded),
		builtin: parseModuleNames(e.Builtin), onDisk: parseModuleNames(e.OnDisk), config: parseKernelConfig(e.Config),
		dependencies: parseModuleDependencies(e.OnDisk), rules: append(parseCommandLineRules(e.CommandLine), parseModprobeRules(e.Modprobe)...),
	}
	var all []facts.Feature
	wanted := nodeFeatures()
	for _, name := range others {
		if !slices.ContainsFunc(wanted, func(ft kernelFeature) bool { return ft.name == name }) {
			wanted = append(wanted, kernelFeature{name: name, module: strings.ReplaceAll(name, "-", "_")})
		}
	}
	for _, ft := range wanted {
		state, how := w.featureState(ft)
		found := facts.Feature{Name: ft.name, State: state, How: how}
		if rule, needed, forbidden := w.forbids(ft); state == facts.Module && forbidden {
			found.State, found.ForbiddenBy, found.How = facts.Forbidden, rule.from, rule.text
			if needed != "" {
				found.How += ", and it needs " + needed
			}
		}
		all = append(all, found)
	}
	return all
}

// parsedEvidence is KernelEvidence with its files parsed.
type parsedEvidence struct {
	KernelEvidence
	filesystems, loaded, builtin, onDisk map[string]bool
	config                               map[string]string
	dependencies                         map[string][]string
	rules                                []moduleRule
}

// featureState returns the state of ft and the file that shows it. The
// strongest evidence comes first.
func (e parsedEvidence) featureState(ft kernelFeature) (facts.FeatureState, string) {
	modules := strings.Fields(ft.module)
	in := func(names map[string]bool) bool {
		return slices.ContainsFunc(modules, func(m string) bool { return names[m] })
	}
	option := func(want string) bool {
		return slices.ContainsFunc(strings.Fields(ft.config), func(o string) bool { return e.config[o] == want })
	}
	switch {
	case in(e.loaded):
		return facts.Loaded, "/proc/modules"
	case in(e.builtin):
		return facts.Builtin, "modules.builtin"
	case option("y"):
		return facts.Builtin, e.ConfigFrom
	case in(e.filesystems):
		return facts.Builtin, "/proc/filesystems"
	case ft.file != "" && e.Exists(ft.file):
		return facts.Builtin, ft.file
	case in(e.onDisk):
		return facts.Module, "modules.dep"
	case option("m"):
		return facts.Missing, e.ConfigFrom + " builds it as a module, and the module is not installed on this host"
	case len(e.config) > 0:
		return facts.Missing, e.ConfigFrom + " disables it"
	case e.OnDisk != nil:
		return facts.Missing, "neither modules.builtin nor modules.dep names it"
	}
	return facts.FeatureUnknown, "this host has neither a kernel configuration nor a list of modules"
}

// parseModuleNames returns the first name of each line of /proc/modules,
// modules.builtin or modules.dep.
func parseModuleNames(text []byte) map[string]bool {
	all := map[string]bool{}
	for f := range fieldsByLine(text) {
		all[moduleName(f[0])] = true
	}
	return all
}

// moduleName returns the name of the module in a file, without directory and suffix.
// Dashes become underscores.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(strings.TrimSuffix(file, ":")), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// parseKernelConfig returns the options of a kernel configuration: option
// without CONFIG_ → y, m or n. An option that is not mentioned is not in the
// map.
func parseKernelConfig(text []byte) map[string]string {
	all := map[string]string{}
	for line := range bytes.Lines(text) {
		s := strings.TrimSpace(string(line))
		if off, ok := strings.CutSuffix(s, " is not set"); ok {
			if name, ok := strings.CutPrefix(off, "# CONFIG_"); ok {
				all[name] = "n"
			}
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(s, "CONFIG_"), "=")
		if ok && (value == "y" || value == "m") {
			all[name] = value
		}
	}
	return all
}

// parseFilesystems returns the file system types in /proc/filesystems.
func parseFilesystems(text []byte) map[string]bool {
	all := map[string]bool{}
	for f := range fieldsByLine(text) {
		all[f[len(f)-1]] = true
	}
	return all
}

// parseCgroupControllers returns the control group version 1 controllers that
// are enabled in /proc/cgroups.
func parseCgroupControllers(text []byte) map[string]bool {
	all := map[string]bool{}
	for f := range fieldsByLine(text) {
		if len(f) >= 4 && f[0][0] != '#' && f[3] == "1" {
			all[f[0]] = true
		}
	}
	return all
}
