package spec

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/plinthdev/plinth/internal/strictyaml"
)

// The fields that hold the versions.
const (
	k0sVersionPath  = "spec.k0s.version"
	kotsVersionPath = "spec.kotsadm.version"
)

// ValidateVersions returns an error if this build does not install the k0s version of in, else
// warnings: a version that was not tried, a Kubernetes minor past its end of life, and KOTS on a
// Kubernetes that it does not support. It is a Validator and not a rule of ParseInstaller, because a
// newer Plinth must still read the Installer of a cluster whose k0s it no longer installs.
func ValidateVersions(in *Installer) []Violation {
	m := Versions()
	if wrong := m.checkInstallable(in.Spec.K0s.Version); wrong != nil {
		return wrong
	}
	return slices.Concat(m.checkEndOfLife(in.Spec.K0s.Version, m.AsOf), m.checkKOTS(in), m.checkVelero(in), m.checkTried(in))
}

// checkInstallable returns an error for a k0s version that this build does not install.
func (m Matrix) checkInstallable(version string) []Violation {
	if m.IsInstallable(version) {
		return nil
	}
	why := "is not a version of Kubernetes 1"
	if v, ok := parseK0sVersion(version); ok && v.Prerelease() != "" {
		why = "is a pre-release, which plinth does not install"
	} else if ok {
		why = fmt.Sprintf("is Kubernetes 1.%d, which this build of plinth does not install", v.Minor())
	}
	return []Violation{{Rule: "k0s-version", Path: k0sVersionPath, Message: strictyaml.QuoteValue(version) + " " + why, Hint: "use a release of " + m.describeInstallable()}}
}

// checkEndOfLife returns a warning if Kubernetes has published no fixes for the minor of a k0s version
// since before day.
func (m Matrix) checkEndOfLife(version string, day time.Time) []Violation {
	var maintained []string
	var ended *MinorReleases
	for _, k := range m.Kubernetes {
		switch {
		case !day.After(k.EndOfLife):
			maintained = append(maintained, fmt.Sprintf("k0s %s, until %s", k.newest(), k.EndOfLife.Format(time.DateOnly)))
		case k.Minor == KubernetesMinor(version):
			ended = &k
		}
	}
	if ended == nil {
		return nil
	}
	hint := "use a newer plinth, which installs maintained minors"
	if len(maintained) > 0 {
		hint = "maintained: " + strings.Join(maintained, "; ")
	}
	return []Violation{{Rule: "k0s-end-of-life", Path: k0sVersionPath,
		Message: fmt.Sprintf("Kubernetes 1.%d has had no fixes since its end of life, %s", ended.Minor, ended.EndOfLife.Format(time.DateOnly)), Hint: hint}}
}

// checkKOTS returns a warning if the KOTS of in does not support its Kubernetes.
func (m Matrix) checkKOTS(in *Installer) []Violation {
	if in.Spec.Kotsadm == nil {
		return nil
	}
	version, minor := in.Spec.Kotsadm.Version, KubernetesMinor(in.Spec.K0s.Version)
	minors, known := m.SupportedKubernetes(version)
	switch {
	case !known:
		return []Violation{{Rule: "kots-kubernetes", Path: kotsVersionPath,
			Message: fmt.Sprintf("KOTS %s is older than every KOTS that plinth knows, so it is unknown whether it supports Kubernetes 1.%d", version, minor),
			Hint:    "the newest known KOTS that does is " + m.NewestKOTS(minor)}}
	case minor >= minors[0] && minor <= minors[1]:
		return nil
	}
	return []Violation{{Rule: "kots-kubernetes", Path: kotsVersionPath,
		Message: fmt.Sprintf("KOTS %s supports Kubernetes %s, and k0s %s is Kubernetes 1.%d", version, describeMinors(minors[0], minors[1]), in.Spec.K0s.Version, minor),
		Hint:    "supported together: " + strings.Join(m.supportedPairs(in.Spec.K0s.Version, version, minors), ", or ")}}
}

// checkVelero returns an error if the KOTS of in does not support its Velero: the console's page of snapshots would not
// work. Without the console any version does.
func (m Matrix) checkVelero(in *Installer) []Violation {
	if in.Spec.Kotsadm == nil || in.Spec.Velero == nil {
		return nil
	}
	kots, velero := in.Spec.Kotsadm.Version, in.Spec.Velero.Version
	v, err := semver.NewVersion(velero)
	if err != nil {
		return nil // version-exact
	}
	minors, known := m.SupportedVelero(kots)
	if known && v.Major() == 1 && v.Minor() >= uint64(minors[0]) && v.Minor() <= uint64(minors[1]) {
		return nil
	}
	message := fmt.Sprintf("KOTS %s supports Velero %s, not %s", kots, describeMinors(minors[0], minors[1]), velero)
	if !known {
		message = fmt.Sprintf("KOTS %s is older than every KOTS of which plinth knows whether it supports Velero %s", kots, velero)
	}
	hint := "no version of KOTS that plinth knows supports it"
	for _, r := range m.Velero {
		if v.Major() == 1 && v.Minor() >= uint64(r.Minors[0]) && v.Minor() <= uint64(r.Minors[1]) {
			hint = "use KOTS " + r.Since + " or later"
			break
		}
	}
	return []Violation{{Rule: "kots-velero", Path: "spec.velero.version", Message: message, Hint: hint}}
}

// supportedPairs returns the pairs to use instead of a k0s and a KOTS that do not fit: the same KOTS with
// the newest k0s of each maintained minor among minors, which it supports. If Kubernetes maintains none of
// them, it is the same k0s with the newest KOTS for it, and the same KOTS with the newest k0s for it.
func (m Matrix) supportedPairs(k0s, kots string, minors [2]int) (pairs []string) {
	ended := ""
	for _, k := range m.Kubernetes {
		pair := "k0s " + k.newest() + " with KOTS " + kots
		switch {
		case k.Minor < minors[0] || k.Minor > minors[1]:
		case m.AsOf.After(k.EndOfLife):
			ended = pair
		default:
			pairs = append(pairs, pair)
		}
	}
	if len(pairs) > 0 {
		return pairs
	}
	if fits := m.NewestKOTS(KubernetesMinor(k0s)); fits != "" {
		pairs = append(pairs, "k0s "+k0s+" with KOTS "+fits)
	}
	if ended != "" {
		pairs = append(pairs, ended)
	}
	return pairs
}

// checkTried returns a warning if the end-to-end tests of this build do not install the versions of in.
func (m Matrix) checkTried(in *Installer) []Violation {
	var others []string
	tried := false
	for _, p := range m.Tried {
		tried = tried || p.K0s == in.Spec.K0s.Version && (in.Spec.Kotsadm == nil || p.Kotsadm == in.Spec.Kotsadm.Version)
		others = append(others, "k0s "+p.K0s+" with KOTS "+p.Kotsadm)
	}
	if tried {
		return nil
	}
	what := "k0s " + in.Spec.K0s.Version
	if in.Spec.Kotsadm != nil {
		what += " with KOTS " + in.Spec.Kotsadm.Version
	}
	return []Violation{{Rule: "version-untried", Path: k0sVersionPath,
		Message: what + " was not tried end to end with this build of plinth", Hint: "tried: " + strings.Join(others, ", ") + "; install it on a host of your own before you ship it"}}
}
