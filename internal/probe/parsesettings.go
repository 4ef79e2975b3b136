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

// parseSysctls returns the settings in a sysctl.d(5) file.
func parseSysctls(text []byte) []facts.SysctlFile {
	var all []facts.SysctlFile
	for line := range bytes.Lines(text) {
		s := strings.TrimLeft(strings.TrimSpace(string(line)), "-")
		key, value, ok := strings.Cut(s, "=")
		if !ok || strings.HasPrefix(s, "#") || strings.HasPrefix(s, ";") {
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

// parseSecurePath returns secure_path from sudoers(5), or "" if it is not set.
func parseSecurePath(text []byte) string {
	for line := range bytes.Lines(text) {
		s := strings.TrimSpace(string(line))
		if rest, ok := strings.CutPrefix(s, "Defaults"); ok {
			if _, p, ok := strings.Cut(rest, "secure_path"); ok {
				return strings.Trim(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(p), "=")), `"`)
			}
		}
	}
	return ""
}

// parseProxy returns the proxy variables in lines of KEY=VALUE, also if a line
// has several after DefaultEnvironment= (systemd-system.conf(5)). Credentials
// are dropped; ok is false if no proxy is set.
func parseProxy(text []byte) (p facts.Proxy, ok bool) {
	for line := range bytes.Lines(text) {
		s := strings.TrimSpace(string(line))
		s = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(s, "DefaultEnvironment="), "export "))
		for _, word := range splitQuotedWords(s) {
			key, value, _ := strings.Cut(word, "=")
			switch strings.ToLower(key) {
			case "http_proxy":
				p.HTTP = proxyAuthority(value)
			case "https_proxy":
				p.HTTPS = proxyAuthority(value)
			case "no_proxy":
				p.NoProxy = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
			}
		}
	}
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

// parseIptablesFilters returns the INPUT and FORWARD chains of iptables-save
// that reject what no rule allows: by their policy, or by a rule that rejects
// every packet.
func parseIptablesFilters(text []byte) []facts.FilterChain {
	var all []facts.FilterChain
	table := ""
	for line := range bytes.Lines(text) {
		s := strings.TrimSpace(string(line))
		if t, ok := strings.CutPrefix(s, "*"); ok {
			table = t
		}
		for _, chain := range []string{"INPUT", "FORWARD"} {
			f := facts.FilterChain{Table: "iptables", Chain: chain, Hook: strings.ToLower(chain)}
			switch {
			case table != "filter":
				continue
			case strings.HasPrefix(s, ":"+chain+" DROP"):
				f.Policy = "drop"
			case strings.HasPrefix(s, "-A "+chain+" -j REJECT"), s == "-A "+chain+" -j DROP":
				f.Policy = "reject"
			default:
				continue
			}
			all = append(all, f)
		}
	}
	return all
}

// parseNftFilters returns the chains of `nft list chains` that filter packets
// to or through the host and drop what no rule accepts. Chains of firewalld,
// ufw and iptables are left out: they are reported by other probes.
func parseNftFilters(text []byte) []facts.FilterChain {
	var all []facts.FilterChain
	table, chain := "", ""
	for f := range fieldsByLine(text) {
		switch {
		case f[0] == "table" && len(f) > 2:
			table, chain = f[1]+" "+f[2], ""
		case f[0] == "chain" && len(f) > 1:
			chain = f[1]
		case f[0] == "type" && len(f) > 3 && f[1] == "filter":
			hook := f[3]
			if chain == "" || (hook != "input" && hook != "forward") || !bytes.Contains([]byte(strings.Join(f, " ")), []byte("policy drop")) ||
				table == "ip filter" || table == "ip6 filter" || strings.HasSuffix(table, " firewalld") {
				continue
			}
			all = append(all, facts.FilterChain{Table: table, Chain: chain, Hook: hook, Policy: "drop"})
		}
	}
	return all
}
