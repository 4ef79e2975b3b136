package probe

import (
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// configFile is one configuration file and its text.
type configFile struct {
	path string
	text []byte
}

// moduleRule is one line of modprobe.d(5), or one entry of the kernel command line, that
// may forbid to load a module.
type moduleRule struct {
	verb   string // install, blacklist, alias, or forbid for every way to load it
	module string // for install it may be a pattern
	rest   string // command of install, target of alias
	text   string // the line, as shown to users
	from   string // the file, or facts.KernelCommandLine
}

// parseModprobeRules returns the rules in files. A backslash continues a line; dashes in
// names become underscores, as in modprobe.
func parseModprobeRules(files []configFile) []moduleRule {
	var all []moduleRule
	for _, file := range files {
		for f := range fieldsByLine([]byte(strings.ReplaceAll(string(file.text), "\\\n", " "))) {
			if len(f) < 2 || !slices.Contains([]string{"install", "blacklist", "alias"}, f[0]) {
				continue
			}
			all = append(all, moduleRule{verb: f[0], module: strings.ReplaceAll(f[1], "-", "_"), rest: strings.Join(f[2:], " "), text: strings.Join(f, " "), from: file.path})
		}
	}
	return all
}

// parseCommandLineRules returns the rules in the kernel command line: the kernel itself
// refuses the modules of module_blacklist, and modprobe reads modprobe.blacklist.
func parseCommandLineRules(text []byte) []moduleRule {
	var all []moduleRule
	for f := range fieldsByLine(text) {
		for _, word := range f {
			key, names, _ := strings.Cut(word, "=")
			verb, known := map[string]string{"module_blacklist": "forbid", "modprobe.blacklist": "blacklist"}[key]
			if !known {
				continue
			}
			for _, name := range strings.Split(names, ",") {
				all = append(all, moduleRule{verb: verb, module: strings.ReplaceAll(name, "-", "_"), text: word, from: facts.KernelCommandLine})
			}
		}
	}
	return all
}

// parseModuleDependencies returns the modules that each module in modules.dep needs,
// by name.
func parseModuleDependencies(text []byte) map[string][]string {
	all := map[string][]string{}
	for f := range fieldsByLine(text) {
		var needs []string
		for _, file := range f[1:] {
			needs = append(needs, moduleName(file))
		}
		all[moduleName(f[0])] = needs
	}
	return all
}

// forbids returns the first rule that keeps the module of ft, or one that it needs, from
// being loaded: the name of that one is needed. ok is false if there is no such rule.
func (e parsedEvidence) forbids(ft kernelFeature) (rule moduleRule, needed string, ok bool) {
	if e.Locked {
		return moduleRule{text: facts.ModulesDisabled + " is 1", from: facts.ModulesDisabled}, "", true
	}
	for _, name := range strings.Fields(ft.module) {
		if !e.onDisk[name] {
			continue
		}
		if rule, ok := e.findRule(name, !isLoadedByName(name)); ok {
			return rule, "", true
		}
		for _, needed := range e.dependencies[name] {
			if e.loaded[needed] || e.builtin[needed] {
				continue
			}
			if rule, ok := e.findRule(needed, false); ok {
				return rule, needed, true
			}
		}
		return moduleRule{}, "", false
	}
	return moduleRule{}, "", false
}

// isLoadedByName reports whether Plinth, k0s or iptables load module by its own name, or
// as a dependency. The kernel loads the others by an alias when they are used first.
func isLoadedByName(module string) bool {
	return slices.Contains([]string{"overlay", "bridge", "br_netfilter", "nf_conntrack", "nf_nat", "ip_tables"}, module)
}

// findRule returns the rule that forbids to load module. Only the first install line of
// a module counts, and it forbids nothing if its command loads the module. blacklist
// concerns only modules that are loaded by an alias (modprobe.d(5)).
func (e parsedEvidence) findRule(module string, byAlias bool) (moduleRule, bool) {
	installs := false
	for _, r := range e.rules {
		matches := r.module == module
		switch r.verb {
		case "install":
			if ok, err := path.Match(r.module, module); installs || err != nil || !ok {
				continue
			}
			installs = true
			matches = !strings.Contains(r.rest, "modprobe") && !strings.Contains(r.rest, "insmod")
		case "alias":
			matches = matches && r.rest == "off"
		case "blacklist":
			matches = matches && byAlias
		}
		if matches {
			return r, true
		}
	}
	return moduleRule{}, false
}
