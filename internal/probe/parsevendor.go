package probe

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// parseBlockDevices parses the output of `lsblk --pairs --bytes`: NAME="sda" SIZE="1024".
func parseBlockDevices(text []byte) (all []facts.BlockDevice) {
	for line := range bytes.Lines(text) {
		v := parsePairs(string(line))
		if v["NAME"] == "" {
			continue
		}
		size, _ := strconv.ParseUint(v["SIZE"], 10, 64) // 0 if it is not a number
		all = append(all, facts.BlockDevice{Name: v["NAME"], KernelName: v["KNAME"], Parent: v["PKNAME"], Type: v["TYPE"], Size: size,
			FSType: v["FSTYPE"], Mount: v["MOUNTPOINT"], ReadOnly: v["RO"] == "1", Removable: v["RM"] == "1"})
	}
	return all
}

// parsePairs parses a line of KEY="value" pairs. lsblk writes a quote in a value as \x22.
func parsePairs(line string) map[string]string {
	all := map[string]string{}
	for {
		key, rest, ok := strings.Cut(strings.TrimSpace(line), `="`)
		if !ok {
			return all
		}
		var value string
		if value, line, ok = strings.Cut(rest, `"`); !ok {
			return all
		}
		all[key] = unescapeHex(value)
	}
}

// unescapeHex replaces each \xHH in s with its byte.
func unescapeHex(s string) string {
	return regexp.MustCompile(`\\x[0-9a-fA-F]{2}`).ReplaceAllStringFunc(s, func(hex string) string {
		n, _ := strconv.ParseUint(hex[2:], 16, 8) // two hexadecimal digits
		return string([]byte{byte(n)})
	})
}

// parseServices parses the output of `systemctl list-units --plain --no-legend`.
func parseServices(text []byte) (all []facts.Service) {
	for f := range fieldsByLine(text) {
		if len(f) >= 4 {
			all = append(all, facts.Service{Unit: f[0], Load: f[1], Active: f[2], Sub: f[3]})
		}
	}
	return all
}

// parseReleaseFile returns the version in a file such as /etc/redhat-release, "Rocky Linux
// release 9.4 (Blue Onyx)", or in /etc/debian_version, "12.5"; "" if there is none.
func parseReleaseFile(text []byte) string {
	found := regexp.MustCompile(`(?:^|release )([0-9]+(?:\.[0-9]+)*)`).FindSubmatch(bytes.TrimSpace(text))
	if found == nil {
		return ""
	}
	return string(found[1])
}
