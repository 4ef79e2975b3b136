package cleanup

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
)

// Snapshot is the visible state of a host, as far as a cluster may change it: the objects of each
// section, sorted and unique. It is plain data for a file beside the journal. Snapshots from before
// an install and after a reset are compared to verify that the reset left nothing.
type Snapshot map[string][]string

// TakeSnapshot returns the state of h. It changes nothing, and it does not fail if the host lacks a
// tool: the section is empty then.
func TakeSnapshot(ctx context.Context, h host.Host, c Scope) Snapshot {
	f := Finder{Host: h, Scope: c}
	s := Snapshot{}
	for name, list := range map[string]func() []string{
		"files": func() []string { return describeFiles(f) },
		"units": func() []string {
			return commandLines(ctx, f, "systemctl", "list-unit-files", "--no-legend", "--no-pager", "--plain")
		},
		"users":      func() []string { return describeAccounts(f) },
		"mounts":     func() []string { return describeMounts(f) },
		"namespaces": func() []string { return listPaths(f, NetnsDir) },
		"links":      func() []string { return firstWords(commandLines(ctx, f, "ip", "-br", "link"), 1) },
		"addresses":  func() []string { return commandLines(ctx, f, "ip", "-br", "addr") },
		"routes": func() []string {
			return slices.Concat(commandLines(ctx, f, "ip", "route", "show", "table", "all"), commandLines(ctx, f, "ip", "-6", "route", "show", "table", "all"))
		},
		"routing rules": func() []string {
			return slices.Concat(commandLines(ctx, f, "ip", "rule"), commandLines(ctx, f, "ip", "-6", "rule"))
		},
		"packet rules": func() []string { return ListRules(ctx, f) },
		"address sets": func() []string { sets, _ := f.ListSets(); return sets },
		"modules":      func() []string { return firstWords(fileLines(f, "/proc/modules"), 1) },
		"cgroups":      func() []string { return listTopCgroups(f) },
		"ports":        func() []string { return listeningPorts(commandLines(ctx, f, "ss", "-Hltnu")) },
		Programs:       func() []string { return runningPrograms(f) },
	} {
		items := list()
		slices.Sort(items)
		s[name] = slices.Compact(items)
	}
	return s
}

// Count returns the number of objects in all sections.
func (s Snapshot) Count() (n int) {
	for _, items := range s {
		n += len(items)
	}
	return n
}

// Programs is the section of the running programs.
const Programs = "programs"

// Change is one difference between two snapshots.
type Change struct {
	Section, Item string
	Removed       bool // the object is in the first snapshot only
}

// String returns the change as shown to users: "links: + kube-bridge".
func (c Change) String() string {
	sign := "+"
	if c.Removed {
		sign = "-"
	}
	return c.Section + ": " + sign + " " + c.Item
}

// DiffSnapshots returns the differences between two snapshots, sorted. A section that is empty in
// before, although every host has an object there, could not be read: it is not compared.
func DiffSnapshots(before, after Snapshot) []Change {
	mayBeEmpty := []string{"namespaces", "address sets", "packet rules"}
	var all []Change
	for section, was := range before {
		is := after[section]
		if len(was) == 0 && !slices.Contains(mayBeEmpty, section) {
			continue
		}
		for _, item := range is {
			if _, had := slices.BinarySearch(was, item); !had {
				all = append(all, Change{section, item, false})
			}
		}
		for _, item := range was {
			if _, has := slices.BinarySearch(is, item); !has {
				all = append(all, Change{section, item, true})
			}
		}
	}
	slices.SortFunc(all, func(x, y Change) int { return strings.Compare(x.String(), y.String()) })
	return all
}

// FromCluster reports whether the change can only come from cluster of. Other changes are those of
// the host's owner in the meantime, and kernel modules, which stay loaded until the next boot
// because other software may use them by then.
func (c Change) FromCluster(of Scope) bool {
	word := strings.Fields(c.Item + " ")
	if c.Removed || len(word) == 0 {
		return false
	}
	switch c.Section {
	case "files", "mounts":
		return Finder{Scope: of}.OwnsPath(word[0])
	case "units":
		return slices.Contains(UnitNames(), word[0])
	case "users":
		return IsWithin(word[len(word)-1], of.DataDir)
	case "namespaces", "cgroups":
		return strings.HasPrefix(path.Base(word[0]), "cni-") || strings.HasPrefix(path.Base(word[0]), "kubepods")
	case "links", "addresses":
		return strings.HasPrefix(word[0], "kube-") || slices.ContainsFunc(word, of.InPodNetwork)
	case "routes", "routing rules":
		return strings.Contains(c.Item, " dev kube-") || slices.ContainsFunc(word, of.InPodNetwork)
	case "packet rules":
		return strings.Contains(c.Item, " KUBE-") || strings.Contains(c.Item, "kube-router-")
	case "address sets":
		return strings.HasPrefix(word[0], "KUBE-") || strings.HasPrefix(word[0], "kube-router-")
	case Programs:
		return word[0] == of.Binary || IsWithin(word[0], of.DataDir)
	}
	return false
}

// commandLines returns the lines that a command prints, with single spaces and without empty lines.
// It returns nil if the command fails.
func commandLines(ctx context.Context, f Finder, argv ...string) []string {
	out, err := f.Query(ctx, argv...)
	if err != nil {
		return nil
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// fileLines returns the lines of the file p.
func fileLines(f Finder, p string) []string {
	raw, _ := f.ReadFile(p) // a missing file has no lines
	return strings.Split(strings.TrimSpace(string(raw)), "\n")
}

// firstWords returns the first n words of each line that has so many.
func firstWords(list []string, n int) []string {
	var all []string
	for _, line := range list {
		if words := strings.Fields(line); len(words) >= n {
			all = append(all, strings.Join(words[:n], " "))
		}
	}
	return all
}

// listPaths returns the paths of the entries of a folder.
func listPaths(f Finder, dir string) []string {
	list, _ := f.ReadDir(dir) // a missing folder is empty
	var all []string
	for _, e := range list {
		all = append(all, path.Join(dir, e.Name()))
	}
	return all
}

// describeFiles returns the files and folders at the cluster's paths, with mode and owner.
func describeFiles(f Finder) []string {
	var all []string
	add := func(p string) {
		if info, err := f.Lstat(p); err == nil {
			uid, gid := host.Owner(info)
			all = append(all, fmt.Sprintf("%s %s %d:%d", p, info.Mode(), uid, gid))
		}
	}
	for _, p := range f.InspectedPaths() {
		add(p)
		for _, inside := range listPaths(f, p) {
			add(inside)
		}
	}
	return all
}

// describeAccounts returns the users and groups of the host with id and home folder.
func describeAccounts(f Finder) []string {
	var all []string
	for _, file := range []string{"/etc/passwd", "/etc/group"} {
		for _, line := range fileLines(f, file) {
			if fields := strings.Split(line, ":"); len(fields) > 5 {
				all = append(all, path.Base(file)+" "+fields[0]+" "+fields[2]+" "+fields[5])
			} else if len(fields) > 2 {
				all = append(all, path.Base(file)+" "+fields[0]+" "+fields[2])
			}
		}
	}
	return all
}

// describeMounts returns the mount points of the host and their types.
func describeMounts(f Finder) []string {
	table, _ := f.MountTable() // exists on every Linux host
	var all []string
	for _, m := range table {
		all = append(all, m.Point+" "+m.Type)
	}
	return all
}

// listTopCgroups returns the first level of cgroups of each hierarchy.
func listTopCgroups(f Finder) []string {
	table, _ := f.MountTable()
	var all []string
	for _, m := range table {
		if m.Type != "cgroup" && m.Type != "cgroup2" {
			continue
		}
		list, _ := f.ReadDir(m.Point)
		for _, e := range list {
			if e.IsDir() {
				all = append(all, path.Join(m.Point, e.Name()))
			}
		}
	}
	return all
}

// listeningPorts returns protocol and address of the listening sockets in the output of `ss
// -Hltnu`.
func listeningPorts(sockets []string) []string {
	var all []string
	for _, line := range sockets {
		if words := strings.Fields(line); len(words) > 4 {
			all = append(all, words[0]+" "+words[4])
		}
	}
	return all
}

// runningPrograms returns the executables of all processes.
func runningPrograms(f Finder) []string {
	list, _ := f.ListProcesses() // exists on every Linux host
	var all []string
	for _, p := range list {
		if p.Exe != "" {
			all = append(all, p.Exe)
		}
	}
	return all
}
