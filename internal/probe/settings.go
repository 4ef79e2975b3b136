package probe

import (
	"maps"
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
	s.Files = selectSysctls(readDropIns(f, "sysctl.d"), sysctls)
	s.Entropy, _ = strconv.Atoi(f.ReadText("/proc/sys/kernel/random/entropy_avail")) // 0 if the kernel does not report it
	limits, err := parseFile(f, "/proc/1/limits", parseLimits)
	if err != nil {
		return s, err
	}
	s.OpenFiles, s.Processes = limits["Max open files"], limits["Max processes"]
	return s, nil
}

// readDropIns returns the .conf files of a configuration folder such as sysctl.d, sorted
// by name whatever their directory. A file hides those of the same name in the
// directories before its own.
func readDropIns(f Files, folder string) []configFile {
	byName := map[string]string{}
	for _, dir := range []string{"/lib", "/usr/lib", "/usr/local/lib", "/run", "/etc"} {
		entries, err := f.ReadDir(path.Join(dir, folder))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if path.Ext(e.Name()) == ".conf" {
				byName[e.Name()] = path.Join(dir, folder, e.Name())
			}
		}
	}
	var all []configFile
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, configFile{byName[name], f.ReadBytes(byName[name])})
	}
	return all
}

// selectSysctls returns the lines of files that set one of keys at boot, in the order of
// systemd-sysctl (sysctl.d(5)). A pattern sets the keys that no line names.
// /etc/sysctl.conf is read only where a link in sysctl.d leads to it (systemd 207).
func selectSysctls(files []configFile, keys []string) []facts.SysctlFile {
	var lines []facts.SysctlFile
	named := map[string]bool{}
	for _, file := range files {
		for _, line := range parseSysctls(file.text) {
			line.Path = file.path
			lines = append(lines, line)
			named[line.Key] = true
		}
	}
	var all []facts.SysctlFile
	for _, line := range lines {
		for _, key := range keys {
			matches, err := path.Match(strings.ReplaceAll(line.Key, ".", "/"), strings.ReplaceAll(key, ".", "/"))
			switch {
			case line.Value == "" || err != nil || !matches:
				continue
			case line.Key != key && named[key]:
				continue
			case line.Key != key:
				all = append(all, facts.SysctlFile{Path: line.Path, Key: key, Value: line.Value, Pattern: line.Key})
			default:
				all = append(all, line)
			}
		}
	}
	return all
}

// readSecurity returns which security software is active on the host.
func readSecurity(f Files) (facts.Security, error) {
	s := facts.Security{SELinux: "disabled", AppArmor: f.ReadText("/sys/module/apparmor/parameters/enabled") == "Y"}
	// Ubuntu's ufw unit is active even if ufw itself is disabled.
	s.UFW = parseUFWEnabled(f.ReadBytes("/etc/ufw/ufw.conf"))
	s.SudoPath = parseSecurePath(readSudoers(f))
	s.FapolicydAllows = parseFapolicydRules(f.ReadBytes("/etc/fapolicyd/compiled.rules"))
	s.FapolicydLogs = isPermissive(f.ReadBytes("/etc/fapolicyd/fapolicyd.conf"))
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

// readSudoers returns the text of sudoers(5) and of the files that it includes by
// default, in the order in which sudo reads them.
func readSudoers(f Files) []byte {
	const dir = "/etc/sudoers.d"
	text := f.ReadBytes("/etc/sudoers")
	entries, err := f.ReadDir(dir)
	if err != nil {
		return text
	}
	for _, e := range entries {
		if !strings.Contains(e.Name(), ".") && !strings.HasSuffix(e.Name(), "~") { // sudo skips these
			text = append(append(text, '\n'), f.ReadBytes(path.Join(dir, e.Name()))...)
		}
	}
	return text
}

// readProxies returns the places that configure a proxy for programs. The files of the
// service manager are one place: a later one changes what an earlier one sets.
func readProxies(f Files) []facts.Proxy {
	manager := []configFile{{"/etc/systemd/system.conf", f.ReadBytes("/etc/systemd/system.conf")}}
	manager = append(manager, readDropIns(f, "systemd/system.conf.d")...)
	var all []facts.Proxy
	for _, place := range [][]configFile{
		{{"/etc/environment", f.ReadBytes("/etc/environment")}},
		manager,
		{{"this command's environment", []byte(strings.Join(os.Environ(), "\n"))}},
	} {
		if p, ok := parseProxy(place); ok {
			all = append(all, p)
		}
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
