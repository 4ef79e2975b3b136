package spec

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"
	"gopkg.in/yaml.v3"
)

//go:embed versions.yaml
var versionsFile []byte

// Matrix is what this build of Plinth knows about the versions of k0s, Kubernetes and KOTS. Its
// content and the sources of it are in versions.yaml.
type Matrix struct {
	AsOf       time.Time       `yaml:"asOf"`       // day of the facts
	Kubernetes []MinorReleases `yaml:"kubernetes"` // the minors that this build installs, oldest first
	Tried      []Pair          `yaml:"tried"`      // installed by the end-to-end tests of this build
	KOTS       []KOTSReleases  `yaml:"kots"`       // oldest first
	Velero     []VeleroRange   `yaml:"velero"`     // oldest first
	Changes    []VersionChange `yaml:"changes"`
}

// MinorReleases is a Kubernetes minor with its releases of k0s.
type MinorReleases struct {
	Minor     int       `yaml:"minor"`     // 33 for Kubernetes 1.33
	EndOfLife time.Time `yaml:"endOfLife"` // day after which Kubernetes publishes no fixes
	K0s       []string  `yaml:"k0s"`       // oldest first
}

// KOTSReleases is a series of KOTS releases that support the same Kubernetes minors.
type KOTSReleases struct {
	Kubernetes [2]int   `yaml:"kubernetes"` // first and last minor: 34 and 36 for Kubernetes 1.34 to 1.36
	Releases   []string `yaml:"releases"`   // oldest first
}

// VeleroRange is which minors of Velero 1 a release of KOTS and those after it support.
type VeleroRange struct {
	Since  string `yaml:"since"`  // release of KOTS
	Minors [2]int `yaml:"minors"` // first and last: 11 and 18 for Velero 1.11 to 1.18
}

// Pair is a version of k0s with a version of KOTS.
type Pair struct {
	K0s     string `yaml:"k0s"`
	Kotsadm string `yaml:"kotsadm"`
}

// Change names something that newer releases of k0s do differently.
type Change string

// The changes that Plinth acts on.
const (
	UpdateProberComponent  Change = "update-prober-component"
	Containerd2            Change = "containerd-2"
	KubeletRefusesCgroupV1 Change = "kubelet-refuses-cgroup-v1"
)

// VersionChange describes a Change.
type VersionChange struct {
	ID    Change   `yaml:"id"`
	Since []string `yaml:"since"` // releases of Kubernetes, such as v1.35.4, at most one of each minor, oldest first
	Text  string   `yaml:"text"`
}

// Versions returns the matrix of this build.
func Versions() Matrix { return matrix() }

// matrix decodes versions.yaml once. A test decodes it too, so it cannot fail in a released build.
var matrix = sync.OnceValue(func() (m Matrix) {
	d := yaml.NewDecoder(bytes.NewReader(versionsFile))
	d.KnownFields(true)
	if err := d.Decode(&m); err != nil {
		panic("internal/spec/versions.yaml: " + err.Error())
	}
	return m
})

// parseK0sVersion returns the parts of an exact k0s version, such as v1.33.8+k0s.1; ok is false for
// any other text.
func parseK0sVersion(version string) (v *semver.Version, ok bool) {
	bare, hasV := strings.CutPrefix(version, "v")
	v, err := semver.StrictNewVersion(bare)
	if err != nil || !hasV || !strings.HasPrefix(v.Metadata(), "k0s.") || v.Major() != 1 || v.Minor() > 1000 {
		return nil, false
	}
	return v, true
}

// CompareK0s returns -1, 0 or +1 if the k0s version a is below, equal to or above b. It orders the releases of k0s for
// one Kubernetes release, v1.33.8+k0s.0 before v1.33.8+k0s.1, which SemVer does not. ok is false if one of them is not
// an exact k0s version.
func CompareK0s(a, b string) (order int, ok bool) {
	x, okX := parseK0sVersion(a)
	y, okY := parseK0sVersion(b)
	if !okX || !okY {
		return 0, false
	}
	return cmp.Or(x.Compare(y), cmp.Compare(k0sRevision(x), k0sRevision(y))), true
}

// k0sRevision returns the number of the k0s release for its Kubernetes release: 1 for v1.33.8+k0s.1.
func k0sRevision(v *semver.Version) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(v.Metadata(), "k0s."))
	return n
}

// KubernetesMinor returns the Kubernetes minor of a k0s version, such as 33 for v1.33.8+k0s.1, or 0 if
// version is not an exact k0s version of Kubernetes 1.
func KubernetesMinor(version string) int {
	v, ok := parseK0sVersion(version)
	if !ok {
		return 0
	}
	return int(v.Minor())
}

// HasChange reports whether change holds for a k0s version; it does not for a text that is not an exact
// k0s version. A pre-release counts as the release that it precedes.
func HasChange(version string, change Change) bool {
	v, ok := parseK0sVersion(version)
	if !ok {
		return false
	}
	i := slices.IndexFunc(Versions().Changes, func(c VersionChange) bool { return c.ID == change })
	return i >= 0 && Versions().Changes[i].holdsFor(v)
}

// holdsFor reports whether c holds for v: within a minor that Since lists from that release on, and in
// all minors after the last.
func (c VersionChange) holdsFor(v *semver.Version) bool {
	var last uint64
	for _, since := range c.Since {
		s := semver.MustParse(since)
		if s.Minor() == v.Minor() {
			return v.Patch() >= s.Patch()
		}
		last = s.Minor()
	}
	return v.Minor() > last
}

// IsInstallable reports whether this build installs a k0s version: it is a release of a minor in the
// matrix. It need not be a release that the matrix lists. A build for tests also installs the states
// that distro builds from k0s's main branch, whose pre-release is "dev".
func (m Matrix) IsInstallable(version string) bool {
	v, ok := parseK0sVersion(version)
	isRelease := ok && (v.Prerelease() == "" || installsDevStates && v.Prerelease() == "dev")
	return isRelease && slices.ContainsFunc(m.Kubernetes, func(k MinorReleases) bool { return k.Minor == int(v.Minor()) })
}

// KOTSReleases returns all releases of KOTS in the matrix, oldest first.
func (m Matrix) KOTSReleases() []string {
	var all []string
	for _, r := range m.KOTS {
		all = append(all, r.Releases...)
	}
	return all
}

// SupportedKubernetes returns the first and the last Kubernetes minor that a version of KOTS supports.
// ok is false for a version before the first of the matrix.
func (m Matrix) SupportedKubernetes(kotsVersion string) (minors [2]int, ok bool) {
	v, err := semver.NewVersion(kotsVersion)
	if err != nil {
		return minors, false
	}
	for _, r := range m.KOTS {
		if v.LessThan(semver.MustParse(r.Releases[0])) {
			break
		}
		minors, ok = r.Kubernetes, true
	}
	return minors, ok
}

// KubernetesRefusal returns why a version of KOTS is not installed in a cluster with a version of Kubernetes, such as
// v1.33.8+k0s.1 or v1.31.2-eks-7f9249a, or "". A minor of a tried pair is accepted, too, and so is a KOTS of which the
// matrix knows nothing.
func (m Matrix) KubernetesRefusal(kotsVersion, kubernetesVersion string) string {
	v, err := semver.NewVersion(kubernetesVersion)
	if err != nil || v.Major() != 1 {
		return fmt.Sprintf("%q is not a version of Kubernetes 1", kubernetesVersion)
	}
	minor := int(v.Minor())
	minors, known := m.SupportedKubernetes(kotsVersion)
	tried := slices.ContainsFunc(m.Tried, func(p Pair) bool { return p.Kotsadm == kotsVersion && KubernetesMinor(p.K0s) == minor })
	if !known || tried || minor >= minors[0] && minor <= minors[1] {
		return ""
	}
	return fmt.Sprintf("it is Kubernetes 1.%d, and KOTS %s supports %s", minor, kotsVersion, describeMinors(minors[0], minors[1]))
}

// SupportedVelero returns the first and the last minor of Velero 1 that a version of KOTS supports. ok is false for a
// version before the first of the matrix.
func (m Matrix) SupportedVelero(kotsVersion string) (minors [2]int, ok bool) {
	v, err := semver.NewVersion(kotsVersion)
	if err != nil {
		return minors, false
	}
	for _, r := range m.Velero {
		if v.LessThan(semver.MustParse(r.Since)) {
			break
		}
		minors, ok = r.Minors, true
	}
	return minors, ok
}

// NewestKOTS returns the newest release of KOTS in the matrix that supports a Kubernetes minor, or "".
func (m Matrix) NewestKOTS(minor int) string {
	for _, r := range slices.Backward(m.KOTS) {
		if r.supports(minor) {
			return r.Releases[len(r.Releases)-1]
		}
	}
	return ""
}

// NewestK0s returns the newest release of k0s in the matrix for a Kubernetes minor, or "".
func (m Matrix) NewestK0s(minor int) string {
	i := slices.IndexFunc(m.Kubernetes, func(k MinorReleases) bool { return k.Minor == minor })
	if i < 0 {
		return ""
	}
	return m.Kubernetes[i].newest()
}

func (r KOTSReleases) supports(minor int) bool {
	return minor >= r.Kubernetes[0] && minor <= r.Kubernetes[1]
}

// newest returns the newest k0s release of k.
func (k MinorReleases) newest() string { return k.K0s[len(k.K0s)-1] }

// describeInstallable returns the minors that this build installs with the newest known release of each.
func (m Matrix) describeInstallable() string {
	var newest []string
	for _, k := range m.Kubernetes {
		newest = append(newest, k.newest())
	}
	return fmt.Sprintf("k0s %s, such as %s", describeMinors(m.Kubernetes[0].Minor, m.Kubernetes[len(m.Kubernetes)-1].Minor), strings.Join(newest, ", "))
}

// describeMinors returns "1.34 to 1.36", or "1.34" if both are the same.
func describeMinors(first, last int) string {
	if first == last {
		return fmt.Sprintf("1.%d", first)
	}
	return fmt.Sprintf("1.%d to 1.%d", first, last)
}
