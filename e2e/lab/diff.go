package lab

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// volatile says, per section, what changes on a host that nobody touches.
// It is kept short: whatever stands here cannot be found to be left over.
func volatile(section string) *regexp.Regexp {
	patterns := map[string]string{
		// The journal, login records, what systemd's and Debian's own timers write, and the
		// copies that useradd and userdel keep of the files before.
		"files":         `^/var/log/(journal(/|$)|wtmp|btmp|lastlog)|^/var/lib/(systemd|logrotate|apt|dpkg/lock|private)(/|$)|^/var/cache/|^/(var/)?tmp/systemd-private-|^/run($|/)|^/etc/(\.pwd\.lock|(passwd|group|shadow|gshadow|subuid|subgid)-)$`,
		"contents":      `^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$|^/var/log/(wtmp|btmp|lastlog)|^/var/lib/(systemd|logrotate|apt)/|^/var/cache/|^/(var/)?tmp/systemd-private-`,
		"runtime files": `^/run/(systemd|user|log|credentials|host|utmp|dbus|initctl)(/|$)`,
		"mounts":        `^/run/(credentials|user)/|^/proc/sys/fs/binfmt_misc`,
		"units":         `\.scope$|^run-|^user-runtime-dir@|^dev-`,
		"active units":  `\.(device|scope|target)$|^run-|^(apt-daily|apt-daily-upgrade|logrotate|systemd-tmpfiles-clean|e2scrub_all|fstrim|dpkg-db-backup|systemd-hostnamed|systemd-timedated|systemd-localed)\.service|^user(-runtime-dir)?[@-]`,
		// The probe itself, and D-Bus services that come and go by themselves.
		"processes": `^(sh|ps|bash|sleep|nsenter|setpriv|systemd-(hostnam|timedat|localed|tmpfile).*)$`,
		// systemd's own cgroups come and go with units, which have their section.
		"cgroups":      `\.(service|mount|socket|scope|swap|timer)( |$|/)|/(system|user|init|system-[^/]*)\.(slice|scope)$|/(supervisor|payload)$`,
		"sysctls":      `\.nf_conntrack_count|\.route\.flush|\.stable_secret|\.nf_conntrack_(buckets|max)$`,
		MachineSysctls: `^fs\.(dentry-state|inode-|inode_|file-nr|quota|epoll|mqueue|aio-nr|binfmt)|^kernel\.(random|pty\.nr|ns_last_pid|perf|sched|hostname|domainname)|^user\.`,
		"routes":       `^$`,
	}
	return regexp.MustCompile(patterns[section])
}

// settled drops what volatile names.
func settled(section string, things map[string]string) map[string]string {
	re := volatile(section)
	if re.String() == "" {
		return things
	}
	maps.DeleteFunc(things, func(key, _ string) bool { return re.MatchString(key) })
	return things
}

var counters = regexp.MustCompile(`\s*\[\d+:\d+\]|counter packets \d+ bytes \d+|^\S*#.*`)

// rules parses a firewall listing: each line in the context of the lines that
// are open around it, without counters and comments.
func rules(out string) map[string]string {
	var kept, open []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(counters.ReplaceAllString(strings.TrimSpace(line), ""))
		switch {
		case line == "" || strings.Contains(line, " # ") && strings.HasPrefix(line, "ip"):
		case line == "}":
			open = open[:max(0, len(open)-1)]
		default:
			kept = append(kept, strings.Join(append(slices.Clone(open), line), " "))
			if strings.HasSuffix(line, "{") {
				open = append(open, strings.TrimSuffix(line, " {"))
			}
		}
	}
	return counted(strings.Join(kept, "\n"))
}

// Without is the baseline without some sections.
func (b Baseline) Without(sections ...string) Baseline {
	c := maps.Clone(b)
	for _, s := range sections {
		delete(c, s)
	}
	return c
}

// Diff says what differs, one line each, sorted: "section: + thing properties",
// "section: - thing properties" or "section: ~ thing: before → after".
// A folder that came or went counts what is below it instead of listing it.
// Empty means that the host is as it was.
func Diff(before, after Baseline) []string {
	var lines []string
	for _, name := range keys(before, after) {
		b, a := before[name], after[name]
		came, went := lacking(a, b), lacking(b, a)
		if name == "contents" && before["files"] != nil { // "files" names those that came or went
			came, went = nil, nil
		}
		for _, thing := range keys(b, a) {
			was, had := b[thing]
			is, has := a[thing]
			if line := folded(came, thing); line != "" {
				lines = append(lines, fmt.Sprintf("%s: + %s", name, line))
			} else if line := folded(went, thing); line != "" {
				lines = append(lines, fmt.Sprintf("%s: - %s", name, line))
			} else if had && has && was != is {
				lines = append(lines, fmt.Sprintf("%s: ~ %s: %s → %s", name, thing, was, is))
			}
		}
	}
	return lines
}

// lacking are the things of a that b has not.
func lacking(a, b map[string]string) map[string]string {
	c := maps.Clone(a)
	maps.DeleteFunc(c, func(thing, _ string) bool { _, ok := b[thing]; return ok })
	return c
}

// folded describes a thing of things, a folder with the number of those below
// it; empty if it is not among them or itself below another.
func folded(things map[string]string, thing string) string {
	properties, ok := things[thing]
	if !ok {
		return ""
	}
	if !strings.HasPrefix(thing, "/") && !strings.HasPrefix(thing, "./") { // no path
		return thing + " " + properties
	}
	if _, below := things[path.Dir(thing)]; below {
		return ""
	}
	n := 0
	for other := range things {
		if strings.HasPrefix(other, thing+"/") {
			n++
		}
	}
	if n > 0 {
		properties += fmt.Sprintf(" (and %d below)", n)
	}
	return thing + " " + properties
}

// keys of both maps, sorted, each once.
func keys[V any](a, b map[string]V) []string {
	both := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(both)
	return slices.Compact(both)
}
