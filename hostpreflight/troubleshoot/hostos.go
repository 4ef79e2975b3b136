package troubleshoot

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// platformFamilies returns the names of operating systems that conditions of hostOS can
// use, with their families. The names are those of gopsutil v4 (host.PlatformInformation),
// which troubleshoot.sh uses; a platform without a family is in none.
func platformFamilies() map[string]string {
	all := map[string]string{}
	for family, platforms := range map[string]string{
		"debian": "debian ubuntu linuxmint raspbian Kylin cumuluslinux uos Deepin",
		"rhel":   "oracle centos redhat scientific enterpriseenterprise amazon xenserver cloudlinux ibm_powerkvm rocky almalinux",
		"suse":   "suse opensuse opensuse-leap opensuse-tumbleweed opensuse-tumbleweed-kubic sles sled caasp",
		"fedora": "fedora", "gentoo": "gentoo", "slackware": "slackware", "arch": "arch", "exherbo": "exherbo", "alpine": "alpine",
		"coreos": "coreos", "solus": "solus", "neokylin": "neokylin", "anolis": "anolis",
		"": "eurolinux flatcar miraclelinux nixos openeuler photon virtuozzo",
	} {
		for _, platform := range strings.Fields(platforms) {
			all[platform] = family
		}
	}
	return all
}

// hostPlatform returns the platform of os and its families. A system that is not in
// platformFamilies has the families that it says to be like.
func hostPlatform(os facts.OS) (platform string, families []string) {
	known := platformFamilies()
	platform = cmp.Or(map[string]string{"rhel": "redhat", "ol": "oracle", "amzn": "amazon"}[os.ID], os.ID)
	if family, ok := known[platform]; ok {
		return platform, []string{family}
	}
	for _, like := range strings.Fields(os.Like) {
		switch like {
		case "debian", "ubuntu":
			families = append(families, "debian")
		case "rhel", "centos":
			families = append(families, "rhel")
		case "suse", "opensuse", "fedora":
			families = append(families, strings.TrimPrefix(like, "open"))
		}
	}
	return platform, families
}

// hostVersion returns the version of os that conditions compare: that of the
// distribution's own release file, if it has one.
func hostVersion(os facts.OS) string { return cmp.Or(os.Release, os.Version) }

// parseHostOS parses "ubuntu == 20.04", "rhel >= 8 && < 9", "kernelVersion < 4.5" or
// "centos-8.2-kernel >= 4.18".
func parseHostOS(when string) (factsCondition, error) {
	word, rest, ok := strings.Cut(strings.TrimSpace(when), " ")
	if !ok {
		return nil, errors.New("has no comparison")
	}
	inRange, err := parseVersionRange(rest)
	if err != nil {
		return nil, err
	}
	if word == "kernelVersion" {
		return func(f facts.Facts) bool { return inRange(versionNumbers(f.Kernel.Release)) }, nil
	}
	if parts := strings.Split(word, "-"); len(parts) == 3 && parts[2] == "kernel" {
		return func(f facts.Facts) bool {
			platform, _ := hostPlatform(f.OS)
			return word == platform+"-"+hostVersion(f.OS)+"-kernel" && inRange(versionNumbers(f.Kernel.Release))
		}, validatePlatform(parts[0])
	}
	return func(f facts.Facts) bool {
		platform, families := hostPlatform(f.OS)
		return (word == platform || slices.Contains(families, word)) && inRange(versionNumbers(hostVersion(f.OS)))
	}, validatePlatform(word)
}

// platformWords returns all platforms and families, sorted.
func platformWords() []string {
	var words []string
	for platform, family := range platformFamilies() {
		words = append(words, platform)
		if family != "" {
			words = append(words, family)
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
}

// validatePlatform returns an error unless word is a platform or a family.
func validatePlatform(word string) error {
	words := platformWords()
	if slices.Contains(words, word) {
		return nil
	}
	hint := ""
	switch meant, _ := hostPlatform(facts.OS{ID: strings.ToLower(word)}); {
	case slices.Contains(words, meant):
		hint = "; did you mean " + meant + "?"
	case slices.Contains(words, strings.ToLower(word)):
		hint = "; did you mean " + strings.ToLower(word) + "?"
	}
	return fmt.Errorf("unknown operating system %q%s; known are kernelVersion, %s, and one of them with a version, such as ubuntu-22.04-kernel", word, hint, strings.Join(words, ", "))
}

// parseVersionRange parses "== 20.04", or several comparisons that are joined by && and
// ||. && binds more tightly than ||.
func parseVersionRange(text string) (func(version []int) bool, error) {
	var either []func([]int) bool
	for _, part := range strings.Split(text, "||") {
		var both []func([]int) bool
		for _, one := range strings.Split(part, "&&") {
			holds, err := parseVersionComparison(one)
			if err != nil {
				return nil, err
			}
			both = append(both, holds)
		}
		either = append(either, func(v []int) bool {
			return !slices.ContainsFunc(both, func(holds func([]int) bool) bool { return !holds(v) })
		})
	}
	return func(v []int) bool {
		return slices.ContainsFunc(either, func(holds func([]int) bool) bool { return holds(v) })
	}, nil
}

// parseVersionComparison parses ">= 20.04".
func parseVersionComparison(text string) (func(version []int) bool, error) {
	w, err := splitWords(text, 2, 2)
	if err != nil {
		return nil, err
	}
	operator := w[0]
	if operator == "!" {
		operator = "!="
	}
	if _, err := applyOperator(operator, 0); err != nil || slices.Contains([]string{"===", "!==", "<>"}, operator) {
		return nil, fmt.Errorf("unknown operator %q", w[0])
	}
	if w[1][0] < '0' || w[1][0] > '9' {
		return nil, fmt.Errorf("%q is not a version such as 22.04", w[1])
	}
	want := versionNumbers(w[1])
	return func(v []int) bool {
		ok, _ := applyOperator(operator, slices.Compare(v, want)) // the operator is known
		return ok
	}, nil
}

// versionNumbers returns the first three numbers at the beginning of version s, which dots
// separate; missing ones are 0. It is 5, 15, 0 for "5.15-rc1".
func versionNumbers(s string) []int {
	all := make([]int, 3)
	for i, digits := range strings.Split(regexp.MustCompile(`^[0-9]*(\.[0-9]+){0,2}`).FindString(s), ".") {
		all[i], _ = strconv.Atoi(digits) // empty, or a number that is too large: 0
	}
	return all
}
