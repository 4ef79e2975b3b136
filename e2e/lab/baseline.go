package lab

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// Baseline is the state of a host: section → object → properties of the object.
// Two baselines of a host that did not change are equal.
type Baseline map[string]map[string]string

// MachineSysctls is the section of the kernel settings that the host shares with
// the machine and every other host. Any kubelet on the machine changes them.
const MachineSysctls = "machine sysctls"

// section is one part of a baseline.
type section struct {
	name   string
	script string                         // for sh; prints one object per line
	inside bool                           // run in the host; otherwise with the machine's tools in the host's network
	parse  func(string) map[string]string // parses the script's output
}

// baselineSections returns the sections of a baseline. They cover everything on the
// host's disk and the names in /run. volatilePattern (diff.go) lists the exceptions.
func baselineSections() []section {
	return []section{
		// Sizes of folders and times are left out: they change without a reason.
		{"files", `find / -xdev \( -type d -printf '%p\td %m %U:%G\n' -o -type l -printf '%p\tl %U:%G %l\n' -o -printf '%p\t%y %m %U:%G %s\n' \)`, true, parseKeyed},
		{"contents", `find / -xdev -path /var/log/journal -prune -o -type f -print0 | xargs -0r sha256sum | sed -E 's/^\\?([0-9a-f]+)  (.*)/\2\t\1/'`, true, parseKeyed},
		{"runtime files", `find /run -xdev -printf '%p\t%y %m %U:%G\n'`, true, parseKeyed},
		{"mounts", `findmnt -rn -o TARGET,SOURCE,FSTYPE,OPTIONS | sed -E 's# /dev/loop[0-9]+# disk#; s#/\.\#[^]]*##; s/ /\t/'`, true, parseKeyed},
		{"units", `systemctl list-unit-files --no-legend --no-pager | awk '{print $1 "\t" $2}'`, true, parseKeyed},
		{"active units", `systemctl list-units --state=active,failed,activating --no-legend --no-pager --plain | awk '{print $1 "\t" $3}'`, true, parseKeyed},
		{"users", `getent passwd; getent group`, true, parseCounted},
		{"processes", `ps --ppid 2 -p 2 --deselect -o comm=`, true, parseCounted},
		{"cgroups", `cd /sys/fs/cgroup && find . -mindepth 1 -type d`, true, parseCounted},
		{"sysctls", `sysctl -a 2>/dev/null | grep '^net\.' | sed 's/ = /\t/'`, true, parseKeyed},
		{MachineSysctls, `sysctl -a 2>/dev/null | grep -v '^net\.' | sed 's/ = /\t/'`, true, parseKeyed},
		{"ports", `ss -Hltnu | awk '{print $1, $5}'`, true, parseCounted},
		{"links", `ip -br link | sed -E 's/@[^ ]+//; s/ +/\t/'`, false, parseKeyed},
		{"addresses", `ip -br addr | sed -E 's/@[^ ]+//; s/ +/\t/'`, false, parseKeyed},
		{"routes", `ip route show table all; ip -6 route show table all; ip rule; ip -6 rule`, false, parseCounted},
		{"iptables", `for t in iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do $t-save 2>/dev/null | sed "s/^/$t /"; done`, false, parseRules},
		{"nftables", `nft list ruleset`, false, parseRules},
		{"ipsets", `ipset save`, false, parseCounted},
	}
}

// Baseline captures the current state of the host, in a few seconds. Start all hosts
// of a test before: each new host is added to every /etc/hosts.
func (h *Host) Baseline(ctx context.Context) Baseline {
	h.t.Helper()
	b, pid := Baseline{}, strconv.Itoa(h.leaderPID())
	for _, s := range baselineSections() {
		cmd := exec.CommandContext(ctx, "nsenter", "-t", pid, "-n", "--", "sh", "-c", s.script)
		if s.inside {
			cmd = h.toolCommand(ctx, "exec", h.Name, "--", "sh", "-c", s.script)
		}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			h.t.Fatalf("baseline of %s, %s: %v\n%s", h.Name, s.name, err, &stderr)
		}
		b[s.name] = dropVolatile(s.name, s.parse(stdout.String()))
	}
	return b
}

// parseKeyed parses lines of "object<TAB>properties". An object that is listed twice
// gets both properties.
func parseKeyed(out string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if old, ok := m[key]; ok {
			value = old + ", " + value
		}
		m[key] = value
	}
	return m
}

// parseCounted parses lines whose order does not matter, such as process names.
func parseCounted(out string) map[string]string {
	n := map[string]int{}
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" {
			n[line]++
		}
	}
	m := make(map[string]string, len(n))
	for line, count := range n {
		m[line] = fmt.Sprintf("×%d", count)
	}
	return m
}
