package lab

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// volatilePattern returns the pattern of the section's objects that change on an
// untouched host. Keep it short: a leftover that it matches is never found.
func volatilePattern(section string) *regexp.Regexp {
	const logFiles = `wtmp|btmp|lastlog|faillog|syslog|messages|debug|(auth|cron|daemon|kern|mail|user)\.log`
	patterns := map[string]string{
		// The journal, the files of Debian 11's rsyslog, login records, what systemd's and
		// Debian's own timers write, and the backup copies of useradd and userdel.
		"files":         `^/var/log/(journal(/|$)|` + logFiles + `)|^/var/lib/(systemd|logrotate|apt|dpkg/lock|private)(/|$)|^/var/(cache|backups)/|^/(var/)?tmp/systemd-private-|^/run($|/)|^/etc/(\.pwd\.lock|(passwd|group|shadow|gshadow|subuid|subgid)-)$`,
		"contents":      `^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$|^/var/log/(` + logFiles + `)|^/var/lib/(systemd|logrotate|apt)/|^/var/(cache|backups)/|^/(var/)?tmp/systemd-private-`,
		"runtime files": `^/run/(systemd|user|log|credentials|host|utmp|dbus|initctl)(/|$)`,
		"mounts":        `^/run/(credentials|user)/|^/proc/sys/fs/binfmt_misc`,
		"units":         `\.scope$|^run-|^user-runtime-dir@|^dev-`,
		// Debian's own timers, and what runs only at the first boot.
		"active units": `\.(device|scope|target)$|^run-|^(apt-daily|apt-daily-upgrade|logrotate|systemd-tmpfiles-clean|e2scrub_all|fstrim|dpkg-db-backup|systemd-hostnamed|systemd-timedated|systemd-localed|ldconfig|systemd-(journal-catalog-update|sysusers|update-done))\.service|^user(-runtime-dir)?[@-]`,
		// The probe itself, and D-Bus services that start and stop on their own.
		"processes": `^(sh|ps|bash|sleep|nsenter|setpriv|systemd-(hostnam|timedat|localed|tmpfile).*)$`,
		// systemd's own cgroups appear and disappear with units, which have their own section.
		"cgroups":      `\.(service|mount|socket|scope|swap|timer)( |$|/)|/(system|user|init|system-[^/]*)\.(slice|scope)$|/(supervisor|payload)$`,
		"sysctls":      `\.nf_conntrack_count|\.route\.flush|\.stable_secret|\.nf_conntrack_(buckets|max)$`,
		MachineSysctls: `^fs\.(dentry-state|inode-|inode_|file-nr|quota|epoll|mqueue|aio-nr|binfmt)|^kernel\.(tainted|random|pty\.nr|ns_last_pid|perf|sched|hostname|domainname)|^user\.`,
		"routes":       `^$`,
	}
	return regexp.MustCompile(patterns[section])
}

// dropVolatile returns the objects without those that match volatilePattern.
func dropVolatile(section string, objects map[string]string) map[string]string {
	re := volatilePattern(section)
	if re.String() == "" {
		return objects
	}
	maps.DeleteFunc(objects, func(key, _ string) bool { return re.MatchString(key) })
	return objects
}

var counterPattern = regexp.MustCompile(`\s*\[\d+:\d+\]|counter packets \d+ bytes \d+|^\S*#.*`)

// parseRules parses a firewall listing. Each line is prefixed with the open blocks
// around it; counters and comments are dropped.
func parseRules(out string) map[string]string {
	var kept, open []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(counterPattern.ReplaceAllString(strings.TrimSpace(line), ""))
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
	return parseCounted(strings.Join(kept, "\n"))
}

// Without returns the baseline without some sections.
func (b Baseline) Without(sections ...string) Baseline {
	c := maps.Clone(b)
	for _, s := range sections {
		delete(c, s)
	}
	return c
}

// Diff returns the differences, sorted, one per line: "section: + object properties",
// "section: - object properties" or "section: ~ object: before → after".
// For an added or removed folder, the objects below it are counted and not listed.
// No lines mean that the host has not changed.
func Diff(before, after Baseline) []string {
	var lines []string
	for _, name := range unionKeys(before, after) {
		b, a := before[name], after[name]
		came, went := missingFrom(a, b), missingFrom(b, a)
		if name == "contents" && before["files"] != nil { // "files" lists added and removed files
			came, went = nil, nil
		}
		for _, object := range unionKeys(b, a) {
			was, had := b[object]
			is, has := a[object]
			if line := describeFolded(came, object); line != "" {
				lines = append(lines, fmt.Sprintf("%s: + %s", name, line))
			} else if line := describeFolded(went, object); line != "" {
				lines = append(lines, fmt.Sprintf("%s: - %s", name, line))
			} else if had && has && was != is {
				lines = append(lines, fmt.Sprintf("%s: ~ %s: %s → %s", name, object, was, is))
			}
		}
	}
	return lines
}

// missingFrom returns the objects of a that b does not have.
func missingFrom(a, b map[string]string) map[string]string {
	c := maps.Clone(a)
	maps.DeleteFunc(c, func(object, _ string) bool { _, ok := b[object]; return ok })
	return c
}

// describeFolded describes one of the objects; a folder with the number of objects
// below it. It returns "" if the object is missing or below another one.
func describeFolded(objects map[string]string, object string) string {
	properties, ok := objects[object]
	if !ok {
		return ""
	}
	if !strings.HasPrefix(object, "/") && !strings.HasPrefix(object, "./") { // not a path
		return object + " " + properties
	}
	if _, below := objects[path.Dir(object)]; below {
		return ""
	}
	n := 0
	for other := range objects {
		if strings.HasPrefix(other, object+"/") {
			n++
		}
	}
	if n > 0 {
		properties += fmt.Sprintf(" (and %d below)", n)
	}
	return object + " " + properties
}

// unionKeys returns the keys of both maps, sorted, each once.
func unionKeys[V any](a, b map[string]V) []string {
	both := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(both)
	return slices.Compact(both)
}
