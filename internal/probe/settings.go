package probe

import (
	"bytes"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// readKernelSettings returns the values of the requested sysctls, where they
// are set at boot, and the limits of services.
func readKernelSettings(f Files, sysctls []string) (facts.Settings, error) {
	s := facts.Settings{
		Sysctls:   map[string]string{},
		Hugepages: selectedOption(f.ReadText("/sys/kernel/mm/transparent_hugepage/enabled")),
		Defrag:    selectedOption(f.ReadText("/sys/kernel/mm/transparent_hugepage/defrag")),
	}
	for _, key := range sysctls {
		if text, err := f.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/")); err == nil {
			s.Sysctls[key] = strings.Join(strings.Fields(string(text)), " ")
		}
	}
	s.Files = readSysctlFiles(f, sysctls)
	s.Entropy, _ = strconv.Atoi(f.ReadText("/proc/sys/kernel/random/entropy_avail")) // 0 if the kernel does not report it
	limits, err := parseFile(f, "/proc/1/limits", parseLimits)
	if err != nil {
		return s, err
	}
	s.OpenFiles, s.Processes = limits["Max open files"], limits["Max processes"]
	return s, nil
}

// readSysctlFiles returns the lines that set one of keys at boot, in the order
// of systemd-sysctl (sysctl.d(5)): files are sorted by name whatever their
// directory, and a file hides files of the same name in the other directories
// of lower priority; sysctl.conf comes last.
func readSysctlFiles(f Files, keys []string) []facts.SysctlFile {
	byName := map[string]string{}
	for _, dir := range []string{"/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d"} {
		entries, err := f.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if path.Ext(e.Name()) == ".conf" {
				byName[e.Name()] = path.Join(dir, e.Name())
			}
		}
	}
	var names []string
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	var all []facts.SysctlFile
	for _, p := range append(pathsByName(byName, names), "/etc/sysctl.conf") {
		for _, set := range parseSysctls(f.ReadBytes(p)) {
			if slices.Contains(keys, set.Key) {
				set.Path = p
				all = append(all, set)
			}
		}
	}
	return all
}

// pathsByName returns the paths of names, in their order.
func pathsByName(byName map[string]string, names []string) []string {
	var all []string
	for _, n := range names {
		all = append(all, byName[n])
	}
	return all
}

// readSecurity returns which security software is active on the host.
func readSecurity(f Files) (facts.Security, error) {
	s := facts.Security{SELinux: "disabled", AppArmor: f.ReadText("/sys/module/apparmor/parameters/enabled") == "Y"}
	// Ubuntu's ufw unit is active even if ufw itself is disabled.
	s.UFW = bytes.Contains(f.ReadBytes("/etc/ufw/ufw.conf"), []byte("\nENABLED=yes"))
	s.SudoPath = parseSecurePath(f.ReadBytes("/etc/sudoers"))
	// selinuxfs is mounted only if SELinux is enabled.
	if enforce, err := f.ReadFile("/sys/fs/selinux/enforce"); err == nil {
		s.SELinux = "permissive"
		if strings.TrimSpace(string(enforce)) == "1" {
			s.SELinux = "enforcing"
		}
	} else if !isMissing(err) {
		return s, err
	}
	return s, nil
}

// readProxies returns the places that configure a proxy for programs.
func readProxies(f Files) []facts.Proxy {
	var all []facts.Proxy
	for _, from := range []string{"/etc/environment", "/etc/systemd/system.conf"} {
		if p, ok := parseProxy(f.ReadBytes(from)); ok {
			p.From = from
			all = append(all, p)
		}
	}
	if p, ok := parseProxy([]byte(strings.Join(os.Environ(), "\n"))); ok {
		p.From = "this command's environment"
		all = append(all, p)
	}
	return all
}

// readTimeZone returns the name of the time zone that /etc/localtime links to.
// Without this file programs use UTC (localtime(5)); a regular file in its
// place has no name, and a link to a file that does not exist returns "".
func readTimeZone(f Files, readlink func(string) (string, error)) string {
	const local = "/etc/localtime"
	to, err := readlink(local)
	switch {
	case err != nil && f.Exists(local):
		return "a file without a name"
	case err != nil:
		return "UTC"
	case !path.IsAbs(to):
		to = path.Join("/etc", to)
	}
	_, name, _ := strings.Cut(to, "zoneinfo/")
	if !f.Exists(to) {
		return ""
	}
	return name
}
