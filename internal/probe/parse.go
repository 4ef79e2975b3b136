package probe

import (
	"bytes"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// fieldsByLine yields the fields of each line that is not empty.
func fieldsByLine(text []byte) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range bytes.Lines(text) {
			if f := strings.Fields(string(line)); len(f) > 0 && !yield(f) {
				return
			}
		}
	}
}

// parseOSRelease parses os-release(5). Arch remains empty: the file does not
// contain it.
func parseOSRelease(text []byte) (facts.OS, error) {
	var os facts.OS
	field := map[string]*string{"ID": &os.ID, "ID_LIKE": &os.Like, "VERSION_ID": &os.Version, "PRETTY_NAME": &os.Name}
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		if to := field[key]; to != nil {
			*to = strings.Trim(value, `"'`)
		}
	}
	if os.ID == "" {
		return os, fmt.Errorf("missing ID line")
	}
	return os, nil
}

// parseCPUInfo parses /proc/cpuinfo.
func parseCPUInfo(text []byte) (facts.CPU, error) {
	var cpu facts.CPU
	socket, cores := "", map[string]bool{}
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "processor":
			cpu.Count++
		case "model name":
			cpu.Model = value
		case "physical id":
			socket = value
		case "core id":
			cores[socket+"/"+value] = true
		case "flags", "Features": // x86, ARM
			if cpu.Flags == nil {
				cpu.Flags = strings.Fields(value)
				cpu.Level = psABILevel(cpu.Flags)
			}
		}
	}
	cpu.Cores = len(cores)
	if cpu.Count == 0 {
		return cpu, fmt.Errorf("missing processor line")
	}
	return cpu, nil
}

// psABILevel returns the x86-64 psABI micro-architecture level that a processor
// with these flags reaches. The flags are in the kernel's names, which call
// lzcnt abm and sse3 pni.
func psABILevel(flags []string) int {
	have := map[string]bool{}
	for _, f := range flags {
		have[f] = true
	}
	steps := []string{
		"lm cmov cx8 fpu fxsr mmx syscall sse2",
		"cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3",
		"avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
		"avx512f avx512bw avx512cd avx512dq avx512vl",
	}
	for n, step := range steps {
		for _, f := range strings.Fields(step) {
			if !have[f] {
				return n
			}
		}
	}
	return len(steps)
}

// parseMemInfo returns Total and Available from /proc/meminfo.
func parseMemInfo(text []byte) (facts.Memory, error) {
	var m facts.Memory
	field := map[string]*uint64{"MemTotal:": &m.Total, "MemAvailable:": &m.Available}
	for f := range fieldsByLine(text) {
		if to := field[f[0]]; to != nil && len(f) > 1 {
			*to = parseKibibytes(f[1])
		}
	}
	if m.Total == 0 {
		return m, fmt.Errorf("missing MemTotal line")
	}
	return m, nil
}

// parseSwaps returns the swap areas in /proc/swaps.
func parseSwaps(text []byte) []facts.Swap {
	var all []facts.Swap
	for f := range fieldsByLine(text) {
		if len(f) >= 3 && f[0] != "Filename" {
			all = append(all, facts.Swap{Path: unescapeOctal(f[0]), Size: parseKibibytes(f[2])})
		}
	}
	return all
}

// parseKibibytes returns s KiB in bytes, or 0 if s is not a number or too
// large.
func parseKibibytes(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || bits.Len64(n) > 54 {
		return 0
	}
	return n << 10
}

// capabilityNames lists the capabilities in the order of their numbers, up to
// CAP_AUDIT_READ (Linux 3.16): newer ones are missing on some hosts that are
// otherwise supported.
const capabilityNames = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable " +
	"net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace " +
	"sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control " +
	"setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read"

// parseProcStatus returns the effective user ID and the missing effective
// capabilities from /proc/PID/status.
func parseProcStatus(text []byte) (facts.Privilege, error) {
	p := facts.Privilege{UID: -1}
	for f := range fieldsByLine(text) {
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "Uid:":
			if len(f) > 2 {
				p.UID = parseNumber(f[2])
			}
		case "CapEff:":
			mask, err := strconv.ParseUint(f[1], 16, 64)
			if err != nil {
				return p, fmt.Errorf("cannot parse the CapEff line: %w", err)
			}
			for bit, name := range strings.Fields(capabilityNames) {
				if mask&(1<<bit) == 0 {
					p.Missing = append(p.Missing, name)
				}
			}
		}
	}
	if p.UID < 0 {
		return p, fmt.Errorf("missing Uid line")
	}
	return p, nil
}

// isMappedUser reports whether /proc/self/uid_map maps user IDs to others, as in a user
// namespace. Without one, all IDs are mapped to themselves.
func isMappedUser(uidMap []byte) bool {
	for f := range fieldsByLine(uidMap) {
		if len(f) == 3 && !slices.Equal(f, []string{"0", "0", "4294967295"}) {
			return true
		}
	}
	return false
}

// parseNumber returns s as an int, or -1 if s is not a number.
func parseNumber(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// parseSystemctlShow parses the output of `systemctl show` for several units,
// or for the manager itself: it returns one map of properties for each, in
// order.
func parseSystemctlShow(text []byte) []map[string]string {
	var all []map[string]string
	current := map[string]string{}
	flush := func() {
		if len(current) > 0 {
			all = append(all, current)
			current = map[string]string{}
		}
	}
	for line := range bytes.Lines(text) {
		s := strings.TrimSpace(string(line))
		if key, value, ok := strings.Cut(s, "="); ok {
			current[key] = value
		} else if s == "" {
			flush()
		}
	}
	flush()
	return all
}

// parseCgroupService returns the name, without .service, of the systemd service
// that a process runs in, from its /proc/PID/cgroup; "" if it runs in none.
func parseCgroupService(text []byte) string {
	for line := range bytes.Lines(text) {
		parts := strings.Split(strings.TrimSpace(string(line)), "/")
		for i := len(parts) - 1; i > 0; i-- {
			if name, ok := strings.CutSuffix(parts[i], ".service"); ok && !strings.HasPrefix(name, "user@") {
				return name
			}
		}
	}
	return ""
}

// countKubeRules returns how many lines of iptables-save Kubernetes wrote:
// chains and rules that contain KUBE-.
func countKubeRules(text []byte) int {
	n := 0
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte("KUBE-")) {
			n++
		}
	}
	return n
}

// parsePackages parses lines of name, state and version, separated by tabs, and
// returns the packages in state "installed".
func parsePackages(out []byte) (all []facts.Package) {
	for line := range strings.Lines(string(out)) {
		w := strings.Split(strings.TrimSpace(line), "\t")
		if len(w) == 3 && w[1] == "installed" && w[0] != "" {
			all = append(all, facts.Package{Name: w[0], Version: w[2]})
		}
	}
	return all
}

// parseListeningSockets returns the paths in /proc/net/unix that a program listens on
// (flag __SO_ACCEPTCON), below /run, to which /var/run leads.
func parseListeningSockets(text []byte) map[string]bool {
	all := map[string]bool{}
	for f := range fieldsByLine(text) {
		if len(f) >= 8 && f[3] == "00010000" {
			all[strings.TrimPrefix(f[7], "/var")] = true
		}
	}
	return all
}
