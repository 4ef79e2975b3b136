package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

// CheckValue returns why value breaks rule and how to fix it. The message is empty
// if value is valid or the rule is unknown.
func CheckValue(rule, value string) (message, hint string) {
	switch rule {
	case "version-exact", "version-exact/addon", "version-exact/k0s":
		return checkVersion(value, strings.TrimPrefix(rule, "version-exact"))
	case "dns-label":
		if !isDNSLabel(value) {
			return strictyaml.QuoteValue(value) + " is not a DNS label", suggestDNSLabel(value)
		}
	case "cidr-form":
		return checkCIDR(value)
	case "node-port-range":
		if _, _, err := ParsePortRange(value); err != nil {
			return strictyaml.QuoteValue(value) + " " + err.Error(), "such as 80-32767"
		}
	case "hostname":
		return checkHostname(value)
	case "object-store-mode":
		if value != "builtin" && value != ObjectStoreNone {
			return strictyaml.QuoteValue(value) + " is not a mode", "use builtin or none"
		}
	case "host-folder":
		return checkHostFolder(value, "such as /srv/snapshots")
	case "backup-schedule":
		if _, err := ParseSchedule(value); err != nil {
			return strictyaml.QuoteValue(value) + " " + err.Error(), "use hourly, daily, weekly, a time such as 02:30, or a day and a time such as Sun 03:30"
		}
	case "backup-target":
		return checkBackupTarget(value)
	case "backup-recipient":
		return checkRecipient(value)
	case "proxy-url":
		return checkProxyURL(value)
	case "no-proxy":
		return checkNoProxyEntry(value)
	case "trusted-ca":
		return checkTrustedCA(value)
	}
	return checkPrometheusValue(rule, value)
}

// checkVersion checks that value is an exact version: X.Y.Z, or vX.Y.Z+k0s.N for
// k0s.
func checkVersion(value, of string) (message, hint string) {
	example, k0s := "write an exact version such as 1.131.2", of == "/k0s"
	want := strings.TrimLeft(value, "vV")
	if of == "/addon" {
		example = "write an exact version such as 1.2.3"
	}
	if k0s {
		example, want = "write an exact version; this build of plinth installs "+Versions().describeInstallable(), "v"+want
	}
	v, err := semver.StrictNewVersion(strings.TrimPrefix(want, "v"))
	if err != nil || len(value) > 64 {
		return strictyaml.QuoteValue(value) + " is not an exact version", example
	}
	if k0s {
		number, ok := strings.CutPrefix(v.Metadata(), "k0s.")
		if n, err := strconv.ParseUint(number, 10, 32); !ok || err != nil || strconv.FormatUint(n, 10) != number {
			return strictyaml.QuoteValue(value) + " is not an exact k0s version", example
		}
	}
	if value != want {
		return strictyaml.QuoteValue(value) + " is not written as expected", "did you mean " + strconv.Quote(want) + "?"
	}
	return "", ""
}

// isDNSLabel reports whether s is a DNS label (RFC 1123) in lower case.
func isDNSLabel(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		!strings.ContainsFunc(s, func(c rune) bool { return c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') })
}

// suggestDNSLabel returns a hint with a DNS label similar to s, or with the rules
// for DNS labels.
func suggestDNSLabel(s string) string {
	near := strings.Trim(strings.Map(func(c rune) rune {
		if c == ' ' || c == '_' || c == '.' {
			return '-'
		}
		return c
	}, strings.ToLower(s)), "-")
	if isDNSLabel(near) {
		return "did you mean " + strconv.Quote(near) + "?"
	}
	return "use up to 63 of a-z, 0-9 and -, with a letter or digit at both ends"
}

// checkHostname checks that value is a DNS name and not an address.
func checkHostname(value string) (message, hint string) {
	if _, err := netip.ParseAddr(value); err == nil {
		return strictyaml.QuoteValue(value) + " is an address", "leave it empty: the console listens on every node's address"
	}
	good := len(value) <= 253
	for label := range strings.SplitSeq(value, ".") {
		good = good && isDNSLabel(label)
	}
	if good {
		return "", ""
	}
	if u, err := url.Parse(value); err == nil && u.Hostname() != "" && !strings.Contains(value, "@") {
		return strictyaml.QuoteValue(value) + " is not a DNS name", "did you mean " + strictyaml.QuoteValue(u.Hostname()) + "?"
	}
	return strictyaml.QuoteValue(value) + " is not a DNS name", "such as console.example.com"
}

// LostFolders returns the folders whose files a reset or the next boot removes. A backup in one of them would be lost.
func LostFolders() []string {
	return []string{"/dev", "/etc/k0s", "/proc", "/run/k0s", "/sys", "/usr/libexec/k0s", "/var/lib/k0s", "/var/lib/kubelet", "/var/lib/plinth",
		"/var/log/containers", "/var/log/pods"}
}

// checkHostFolder checks that value is the absolute path of a folder that belongs to no program. example is the hint.
func checkHostFolder(value, example string) (message, hint string) {
	clean := path.Clean(value)
	switch {
	case !path.IsAbs(value) || strings.ContainsAny(value, "\x00\n"):
		return strictyaml.QuoteValue(value) + " is not an absolute path", example
	case value != clean:
		return strictyaml.QuoteValue(value) + " is not written as expected", "did you mean " + strictyaml.QuoteValue(clean) + "?"
	}
	for _, taken := range append([]string{"/bin", "/boot", "/etc", "/lib", "/lib64", "/root", "/run", "/sbin", "/tmp", "/usr",
		"/var/cache", "/var/log", "/var/run", "/var/tmp"}, LostFolders()...) {
		if clean == taken || strings.HasPrefix(clean, taken+"/") {
			return strictyaml.QuoteValue(value) + " is in " + taken + ", whose files belong to the system or are removed by a reset", example
		}
	}
	if slices.Contains([]string{"/", "/home", "/media", "/mnt", "/opt", "/srv", "/var", "/var/lib"}, clean) {
		return strictyaml.QuoteValue(value) + " is not a folder of its own", example
	}
	return "", ""
}

// checkCIDR checks that value is an IPv4 network without host bits.
func checkCIDR(value string) (message, hint string) {
	p, err := netip.ParsePrefix(value)
	switch {
	case err != nil:
		return strictyaml.QuoteValue(value) + " is not a CIDR", "such as 10.244.0.0/16"
	case !p.Addr().Is4():
		return strictyaml.QuoteValue(value) + " is not IPv4", "such as 10.244.0.0/16"
	case p != p.Masked():
		return strictyaml.QuoteValue(value) + " has host bits", "did you mean " + strconv.Quote(p.Masked().String()) + "?"
	}
	return "", ""
}

// ParsePortRange parses "first-last", both between 1 and 65535. The error completes
// a sentence that begins with the value.
func ParsePortRange(value string) (first, last int, err error) {
	a, b, ok := strings.Cut(value, "-")
	first, errA := strconv.Atoi(a)
	last, errB := strconv.Atoi(b)
	switch {
	case !ok || errA != nil || errB != nil || value != fmt.Sprintf("%d-%d", first, last):
		return 0, 0, errors.New("is not a range first-last")
	case first < 1 || last > 65535:
		return 0, 0, errors.New("has a port outside 1 to 65535")
	case first > last:
		return 0, 0, errors.New("has a last port below the first")
	}
	return first, last, nil
}

// checkProxyURL checks that value is the URL of a proxy. The message does not
// contain the value or the error of the parser: both can contain a password.
func checkProxyURL(value string) (message, hint string) {
	u, err := url.Parse(value)
	example := "such as http://proxy.example.com:3128"
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return "is not an http:// or https:// URL with a host", example
	}
	port, err := strconv.Atoi(u.Port())
	if bad := err != nil || port < 1 || port > 65535; bad && (u.Port() != "" || strings.HasSuffix(u.Host, ":")) {
		return "has a port outside 1 to 65535", example
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "has a path, query or fragment after host and port", example
	}
	return "", ""
}

// checkNoProxyEntry checks that value is one entry of a NO_PROXY list.
func checkNoProxyEntry(value string) (message, hint string) {
	switch {
	case value == "":
		return "is empty", "remove it"
	case strings.ContainsAny(value, ", \t\n"):
		return strictyaml.QuoteValue(value) + " is more than one entry", "write each as a separate list entry"
	case strings.Contains(value, "://"):
		return strictyaml.QuoteValue(value) + " is a URL", "write only the host"
	case strings.ContainsFunc(value, func(c rune) bool {
		return c > 0x7e || c < 0x21 || strings.ContainsRune("@\"'\\?#=&;|<>$`(){}!^%+~", c)
	}):
		return strictyaml.QuoteValue(value) + " is not a name, .suffix, address or CIDR", "such as .example.com or 10.0.0.0/8"
	case !isProxyDestination(value):
		return strictyaml.QuoteValue(value) + " is not a name, .suffix, address or CIDR", "such as .example.com, which matches all names below it, or 10.0.0.0/8"
	}
	return "", ""
}

// isProxyDestination reports whether value is *, an address, a CIDR, or a name that
// can begin with a dot and end with a port: what Go and curl accept in NO_PROXY.
func isProxyDestination(value string) bool {
	if _, err := netip.ParseAddr(strings.Trim(value, "[]")); err == nil || value == "*" {
		return true
	}
	if _, err := netip.ParseAddrPort(value); err == nil {
		return true
	}
	if strings.Contains(value, "/") {
		_, err := netip.ParsePrefix(value)
		return err == nil
	}
	name, port, hasPort := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(value, "*"), "."), ":")
	if n, err := strconv.Atoi(port); hasPort && (err != nil || n < 1 || n > 65535) {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isDNSLabel(strings.ReplaceAll(strings.ToLower(label), "_", "-")) {
			return false
		}
	}
	return true
}
