package resets

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// few is how many things of a kind are worth a line each.
const few = 4

// fold makes few lines of many things of one kind; what would be one line each
// stays as it is.
func fold(kind string, things []string) []string {
	if kind == "files" || len(things) <= few && kind != "processes" {
		return things
	}
	family := familyOf(kind)
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
		return wrap(lines)
	}
	return lines
}

// familyOf tells of a thing of a kind what it is one of.
func familyOf(kind string) func(thing string) string {
	switch kind {
	case "processes":
		return program
	case "firewall-rules":
		return chains
	case "links":
		return pairs
	case "address-sets":
		return prefix
	}
	return folder
}

// program is the name of "1234 /usr/bin/etcd".
func program(process string) string {
	_, exe, _ := strings.Cut(process, " ")
	if exe == "" {
		return "(without a name)"
	}
	return path.Base(exe)
}

// chains is the table and whose chain: "iptables-nft nat: chains KUBE-SVC-…"
// for "iptables-nft nat: chain KUBE-SVC-ABC". Names that are hashes behind a
// prefix are many; the others are of one program each.
func chains(found string) string {
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

// folder is the first folders of a path, with a mark for what follows.
func folder(p string) string {
	const first = 5 // with the empty one before the first slash
	parts := strings.Split(p, "/")
	if len(parts) > first {
		return strings.Join(parts[:first], "/") + "/…"
	}
	return p
}

// pairs is the name of a link; the pods' ends have one of their own each.
func pairs(name string) string {
	if rest, ok := strings.CutPrefix(name, "veth"); ok && rest != "" {
		return "veth…"
	}
	return name
}

// prefix is what a set's name has in common with the others of its program.
func prefix(name string) string {
	if i := strings.IndexByte(name, '-'); i > 0 {
		return name[:i] + "-…"
	}
	return name
}

// wrap joins short words into lines.
func wrap(words []string) (lines []string) {
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
