package probe

import (
	"bytes"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// selectedOption returns the word in brackets: madvise for "always [madvise]
// never". Without brackets it returns text.
func selectedOption(text string) string {
	_, rest, ok := strings.Cut(text, "[")
	if !ok {
		return text
	}
	word, _, _ := strings.Cut(rest, "]")
	return word
}

// parseSysctls returns the settings in a sysctl.d(5) file. A key may be a pattern. A key
// after a minus and without a value is excluded from patterns: its value is empty.
func parseSysctls(text []byte) []facts.SysctlFile {
	var all []facts.SysctlFile
	for line := range bytes.Lines(text) {
		s := strings.TrimSpace(string(line))
		s, minus := strings.CutPrefix(s, "-")
		key, value, ok := strings.Cut(s, "=")
		if !ok && !minus || strings.HasPrefix(s, "#") || strings.HasPrefix(s, ";") {
			continue
		}
		key = strings.ReplaceAll(strings.TrimSpace(key), "/", ".")
		all = append(all, facts.SysctlFile{Key: key, Value: strings.TrimSpace(value)})
	}
	return all
}

// parseLimits returns the hard limits in /proc/PID/limits; -1 means unlimited.
func parseLimits(text []byte) (map[string]int64, error) {
	all := map[string]int64{}
	for line := range bytes.Lines(text) {
		s := string(line)
		if len(s) < 48 || !strings.HasPrefix(s, "Max ") {
			continue
		}
		hard, _, _ := strings.Cut(strings.TrimSpace(s[47:]), " ")
		n, err := strconv.ParseInt(hard, 10, 64)
		if hard == "unlimited" {
			n, err = -1, nil
		}
		if err == nil {
			all[strings.TrimSpace(s[:26])] = n
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("missing limits")
	}
	return all, nil
}

// parseSecurePath returns the secure_path that sudoers(5) sets for all users, or "" if
// it is not set. The last line counts.
func parseSecurePath(text []byte) string {
	found := ""
	for line := range bytes.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "Defaults")
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' { // Defaults:USER and others are for some only
			continue
		}
		before, value, ok := strings.Cut(rest, "secure_path")
		value = strings.TrimSpace(value)
		switch {
		case !ok:
		case strings.HasSuffix(strings.TrimSpace(before), "!"):
			found = ""
		case strings.HasPrefix(value, "+="):
			found = strings.TrimPrefix(found+":"+unquoteSudoers(value[2:]), ":")
		case strings.HasPrefix(value, "="):
			found = unquoteSudoers(value[1:])
		}
	}
	return found
}

// unquoteSudoers returns the first value in s, which may be in quotes; a comma separates
// it from the next setting.
func unquoteSudoers(s string) string {
	s = strings.TrimSpace(s)
	if quoted, ok := strings.CutPrefix(s, `"`); ok {
		value, _, _ := strings.Cut(quoted, `"`)
		return value
	}
	value, _, _ := strings.Cut(s, ",")
	return strings.TrimSpace(value)
}

// parseFapolicydRules returns the files and directories that the rules of
// fapolicyd.rules(5) allow for every user, every program and every kind of access,
// before the first rule that denies something.
func parseFapolicydRules(text []byte) []string {
	var all []string
	for f := range fieldsByLine(text) {
		switch {
		case strings.HasPrefix(f[0], "deny"):
			return all
		case len(f) == 5 && f[0] == "allow" && f[1] == "perm=any" && f[2] == "all" && f[3] == ":":
			kind, names, _ := strings.Cut(f[4], "=")
			if kind == "dir" || kind == "path" {
				all = append(all, strings.Split(names, ",")...)
			}
		}
	}
	return all
}

// isPermissive reports whether fapolicyd.conf(5) makes fapolicyd log only.
func isPermissive(text []byte) bool {
	permissive := false
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(string(line), "=")
		if strings.TrimSpace(key) == "permissive" {
			permissive = strings.TrimSpace(value) == "1"
		}
	}
	return permissive
}

// parseProxy returns the proxy variables in the files of one place: lines of KEY=VALUE,
// also several in a line after DefaultEnvironment= (systemd-system.conf(5)). A later
// line replaces an earlier one. all_proxy is for what no other variable names.
// Credentials are dropped; ok is false if no proxy is set.
func parseProxy(files []configFile) (p facts.Proxy, ok bool) {
	values := map[string]string{}
	for _, file := range files {
		for line := range bytes.Lines(file.text) {
			s := strings.TrimSpace(string(line))
			switch {
			case strings.HasPrefix(s, "#"), strings.HasPrefix(s, ";"):
				continue
			case s == "DefaultEnvironment=":
				clear(values)
			}
			s = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(s, "DefaultEnvironment="), "export "))
			for _, word := range splitQuotedWords(s) {
				key, value, _ := strings.Cut(word, "=")
				key = strings.ToLower(key)
				if strings.HasSuffix(key, "_proxy") {
					values[key] = value
				}
				if value != "" && (key == "http_proxy" || key == "https_proxy" || key == "all_proxy") {
					p.From = file.path
				}
			}
		}
	}
	proxy := func(key string) string {
		if values[key] == "" {
			key = "all_proxy"
		}
		return proxyAuthority(values[key])
	}
	p.HTTP, p.HTTPS = proxy("http_proxy"), proxy("https_proxy")
	p.NoProxy = strings.FieldsFunc(values["no_proxy"], func(r rune) bool { return r == ',' || r == ' ' })
	return p, p.HTTP != "" || p.HTTPS != ""
}

// splitQuotedWords returns the words of a line without their quotes; a quoted
// space does not end a word.
func splitQuotedWords(s string) []string {
	var all []string
	word, quote := "", rune(0)
	for _, r := range s + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote = r
		case quote == 0 && (r == ' ' || r == '\t'):
			if word != "" {
				all = append(all, word)
			}
			word = ""
		default:
			word += string(r)
		}
	}
	return all
}

// proxyAuthority returns host and port of a proxy's URL, which may have no
// scheme.
func proxyAuthority(s string) string {
	if s == "" {
		return ""
	}
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "a URL that cannot be parsed"
	}
	return u.Host
}

// parseSearchDomains returns the search domains in resolv.conf(5); of several
// lines the last one counts.
func parseSearchDomains(text []byte) []string {
	var all []string
	for f := range fieldsByLine(text) {
		if f[0] == "search" || f[0] == "domain" {
			all = f[1:]
		}
	}
	return all
}

// parseUFWEnabled reports whether ufw.conf turns ufw on. The shell reads that file, so
// the value may be quoted, and the last line counts (ufw-init-functions).
func parseUFWEnabled(text []byte) (enabled bool) {
	for line := range bytes.Lines(text) {
		value, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "ENABLED=")
		if !ok {
			continue
		}
		value, _, _ = strings.Cut(value, " ")
		value, _, _ = strings.Cut(value, "\t")
		enabled = strings.EqualFold(strings.Trim(value, `"'`), "yes")
	}
	return enabled
}
