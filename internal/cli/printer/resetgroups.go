package printer

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// maxListed is the number of objects of one kind that are listed one by one.
const maxListed = 4

// groupObjects returns the lines for objects of one kind: one line per group
// with its size, or one line per object if there are few.
func groupObjects(kind string, things []string) []string {
	if kind == "files" || len(things) <= maxListed && kind != "processes" {
		return things
	}
	family := groupNameFunc(kind)
	var names []string
	count := map[string]int{}
	for _, t := range things {
		name := family(t)
		if count[name]++; count[name] == 1 {
			names = append(names, name)
		}
	}
	lines := make([]string, 0, len(names))
	for _, name := range names {
		if n := count[name]; n > 1 {
			name = fmt.Sprintf("%s: %d", name, n)
		}
		lines = append(lines, name)
	}
	slices.Sort(lines)
	if kind == "processes" {
		return wrapWords(lines)
	}
	return lines
}

// groupNameFunc returns the function that names the group of an object of kind.
func groupNameFunc(kind string) func(thing string) string {
	switch kind {
	case "processes":
		return processGroup
	case "firewall-rules":
		return firewallGroup
	case "links":
		return linkGroup
	case "address-sets":
		return addressSetGroup
	}
	return pathGroup
}

// processGroup returns the program of a process: "etcd" for "1234 /usr/bin/etcd".
func processGroup(process string) string {
	_, exe, _ := strings.Cut(process, " ")
	if exe == "" {
		return "(unnamed)"
	}
	return path.Base(exe)
}

// firewallGroup returns the table and the owner of a chain:
// "iptables-nft nat: chains KUBE-…" for "iptables-nft nat: chain KUBE-SVC-ABC".
// Most chain names are a prefix of their program and a hash.
func firewallGroup(found string) string {
	table, what, ok := strings.Cut(found, ": ")
	if !ok {
		return found
	}
	if _, isRule := strings.CutPrefix(what, "rule in "); isRule {
		return table + ": rules in the host's own chains"
	}
	chain, _ := strings.CutPrefix(what, "chain ")
	for _, owner := range []string{"KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-", "KUBE-", "CNI-"} {
		if strings.HasPrefix(chain, owner) {
			return table + ": chains " + owner + "…"
		}
	}
	return table + ": " + what
}

// pathGroup returns the first directories of p, with "…" for the rest.
func pathGroup(p string) string {
	const first = 5 // including the empty part before the first slash
	parts := strings.Split(p, "/")
	if len(parts) > first {
		return strings.Join(parts[:first], "/") + "/…"
	}
	return p
}

// linkGroup returns the name of a network link, or "veth…" for those of pods,
// which all have different names.
func linkGroup(name string) string {
	if rest, ok := strings.CutPrefix(name, "veth"); ok && rest != "" {
		return "veth…"
	}
	return name
}

// addressSetGroup returns the prefix of a set's name, which the sets of one
// program share.
func addressSetGroup(name string) string {
	if i := strings.IndexByte(name, '-'); i > 0 {
		return name[:i] + "-…"
	}
	return name
}

// wrapWords joins words with commas into lines of at most 76 columns.
func wrapWords(words []string) (lines []string) {
	const width = 76
	for _, word := range words {
		if n := len(lines); n > 0 && len(lines[n-1])+len(word)+2 <= width {
			lines[n-1] += ", " + word
			continue
		}
		lines = append(lines, word)
	}
	return lines
}
