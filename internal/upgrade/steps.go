package upgrade

import (
	"bytes"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

//go:embed steps.yaml
var stepsFile []byte

// StepRules are the rules for steps between versions. Their content and its sources are in steps.yaml.
type StepRules struct {
	MinorsPerStep int            `yaml:"minorsPerStep"` // Kubernetes minors
	Intermediate  []Intermediate `yaml:"intermediate"`
	Downgrades    []Downgrade    `yaml:"downgrades"`
}

// Intermediate is a release that must be installed on the way from older versions to newer ones.
type Intermediate struct {
	Component string `yaml:"component"` // key below spec of the Installer
	Before    string `yaml:"before"`    // the rule is for installed versions below this one
	Target    string `yaml:"target"`    // and for new versions that are not below this one
	Install   string `yaml:"install"`   // what to install first; not below Before, and below Target
	Reason    string `yaml:"reason"`
}

// Downgrade states why a component cannot get a lower version.
type Downgrade struct {
	Component string `yaml:"component"` // key below spec of the Installer
	Reason    string `yaml:"reason"`
}

// Rules returns the rules of this build.
func Rules() StepRules { return stepRules() }

// stepRules decodes steps.yaml once. A test decodes it, too.
var stepRules = sync.OnceValue(func() StepRules { return mustDecode[StepRules]("steps.yaml", stepsFile) })

// mustDecode decodes an embedded file; unknown keys are errors. A test decodes every file, so it cannot fail in a
// released build.
func mustDecode[T any](name string, file []byte) (v T) {
	d := yaml.NewDecoder(bytes.NewReader(file))
	d.KnownFields(true)
	if err := d.Decode(&v); err != nil {
		panic("internal/upgrade/" + name + ": " + err.Error())
	}
	return v
}

// Steps is the result of CheckVersions.
type Steps struct {
	K0s      []string // releases of k0s to install, in this order; the last is the requested one; empty if k0s stays as it is
	Notes    []string // what the user should know; no reason to stop
	Refusals []Refusal
}

// CheckVersions decides whether a cluster with the versions was can be upgraded to the versions is. hops are further
// releases of k0s that the new bundle contains, in any order: they are used where a step needs one.
func CheckVersions(was, is Versions, hops ...string) Steps {
	return Rules().check(was, is, hops)
}

// check is CheckVersions with the rules r.
func (r StepRules) check(was, is Versions, hops []string) (s Steps) {
	for _, key := range slices.Sorted(maps.Keys(is)) {
		old, installed := was[key]
		if !installed || old == is[key] {
			continue
		}
		order, ok := compareVersions(key, is[key], old)
		refusal := Refusal{Subject: versionField(key), Was: old, Is: is[key], Exit: problem.ExitConfig}
		if key == kotsKey {
			refusal.Exit = problem.ExitGate
		}
		switch missing := r.intermediate(key, old, is[key]); {
		case !ok:
			refusal.Reason, refusal.Fix = "the versions cannot be compared", "use an exact version"
		case order < 0:
			refusal.Reason = "the new version is lower than the installed one, and " + r.downgradeReason(key)
			refusal.Fix = "use a bundle with " + old + " or later; `sudo plinth upgrade --rollback` rolls the last upgrade back while its snapshot is kept"
		case key == k0sKey:
			path, why := r.k0sPath(old, is[key], hops)
			if s.K0s = path; why == "" {
				continue
			}
			refusal.Reason, refusal.Fix = why, r.firstInstall(key, old, is[key])
		case missing != nil:
			refusal.Reason, refusal.Fix = missing.Reason, r.firstInstall(key, old, is[key])
		default:
			continue
		}
		s.Refusals = append(s.Refusals, refusal)
	}
	s.Notes = append(patchNote(was[k0sKey], s.K0s), kubernetesNotes(was[kotsKey], is[kotsKey], s.K0s)...)
	return s
}

// downgradeReason returns why a component cannot get a lower version.
func (r StepRules) downgradeReason(key string) string {
	for _, d := range r.Downgrades {
		if d.Component == key {
			return d.Reason
		}
	}
	return "a lower version is not tested on the data of a higher one"
}

// intermediate returns the rule by which a component needs a release between two versions, or nil.
func (r StepRules) intermediate(key, from, to string) *Intermediate {
	for i := range r.Intermediate {
		rule := &r.Intermediate[i]
		if rule.Component != key {
			continue
		}
		below, okFrom := compareVersions(key, from, rule.Before)
		reaches, okTo := compareVersions(key, to, rule.Target)
		if okFrom && okTo && below < 0 && reaches >= 0 {
			return rule
		}
	}
	return nil
}

// k0sPath returns the releases of k0s to install from an installed release to a later one, by way of hops. why is
// the reason why there is no such path.
func (r StepRules) k0sPath(from, to string, hops []string) (path []string, why string) {
	candidates := append(slices.Clone(hops), to)
	candidates = slices.DeleteFunc(candidates, func(v string) bool {
		low, okLow := spec.CompareK0s(v, from)
		high, okHigh := spec.CompareK0s(v, to)
		return !okLow || !okHigh || low <= 0 || high > 0
	})
	slices.SortFunc(candidates, compareK0s)
	for at := from; at != to; {
		next := ""
		for _, v := range candidates { // the last that one step reaches
			if compareK0s(v, at) > 0 && r.k0sStepReason(at, v) == "" {
				next = v
			}
		}
		if next == "" {
			return nil, r.k0sStepReason(at, to)
		}
		path, at = append(path, next), next
	}
	return path, ""
}

// k0sStepReason returns why k0s cannot be upgraded from one release to a later one in one step, or "".
func (r StepRules) k0sStepReason(from, to string) string {
	if rule := r.intermediate(k0sKey, from, to); rule != nil {
		return rule.Reason
	}
	if a, b := spec.KubernetesMinor(from), spec.KubernetesMinor(to); b-a > r.MinorsPerStep {
		return fmt.Sprintf("Kubernetes 1.%d cannot be upgraded to 1.%d in one step, because all parts of a cluster work together only with the next minor", a, b)
	}
	return ""
}

// firstInstall returns which releases must be installed between two versions of a component, in words.
func (r StepRules) firstInstall(key, from, to string) string {
	var needed []string
	for at := from; len(needed) < 20; { // the number of minors ends it; the limit is for rules that contradict each other
		rule := r.intermediate(key, at, to)
		next := ""
		switch {
		case key == k0sKey && r.k0sStepReason(at, to) == "" || key != k0sKey && rule == nil:
			return "upgrade to " + strings.Join(needed, ", then to ") + " first, or use a bundle that contains the releases between"
		case rule != nil:
			next = rule.Install
			needed = append(needed, next)
		default:
			minor := spec.KubernetesMinor(at) + r.MinorsPerStep
			if next = spec.Versions().NewestK0s(minor); next == "" {
				return fmt.Sprintf("upgrade to Kubernetes 1.%d first, with a plinth that knows it", minor)
			}
			needed = append(needed, fmt.Sprintf("Kubernetes 1.%d (such as k0s %s)", minor, next))
		}
		at = next
	}
	return "ask the vendor for a bundle that contains the releases between"
}

// compareK0s is spec.CompareK0s for valid versions.
func compareK0s(a, b string) int {
	order, _ := spec.CompareK0s(a, b)
	return order
}

// compareVersions returns -1, 0 or +1 if version a of a component is below, equal to or above b; ok is false if one
// of them is not a version.
func compareVersions(key, a, b string) (order int, ok bool) {
	if key == k0sKey {
		return spec.CompareK0s(a, b)
	}
	x, errX := compat.ParseVersion(a)
	y, errY := compat.ParseVersion(b)
	if errX != nil || errY != nil {
		return 0, false
	}
	return x.Compare(y), true
}

// patchNote returns a note if the first step leaves a Kubernetes minor whose newest known release is not installed
// (k0s docs/version-skew-policy.md).
func patchNote(installed string, path []string) []string {
	minor := spec.KubernetesMinor(installed)
	if len(path) == 0 || spec.KubernetesMinor(path[0]) == minor {
		return nil
	}
	newest := spec.Versions().NewestK0s(minor)
	if order, ok := spec.CompareK0s(installed, newest); !ok || order >= 0 {
		return nil
	}
	return []string{fmt.Sprintf("k0s recommends the newest release of Kubernetes 1.%d, %s, before the next minor; installed is %s", minor, newest, installed)}
}

// kubernetesNotes returns a note for each Kubernetes minor on the way that a version of KOTS does not support: the
// installed one runs until k0s is upgraded everywhere, the new one afterwards.
func kubernetesNotes(oldKOTS, newKOTS string, path []string) (notes []string) {
	if len(path) == 0 {
		return nil
	}
	check := func(version, k0s, when string) {
		minors, known := spec.Versions().SupportedKubernetes(version)
		minor := spec.KubernetesMinor(k0s)
		if version != "" && known && (minor < minors[0] || minor > minors[1]) {
			notes = append(notes, fmt.Sprintf("KOTS %s supports Kubernetes 1.%d to 1.%d; it runs on 1.%d %s", version, minors[0], minors[1], minor, when))
		}
	}
	for _, k0s := range path {
		check(oldKOTS, k0s, "until KOTS is upgraded, after k0s")
	}
	if newKOTS != oldKOTS {
		check(newKOTS, path[len(path)-1], "after the upgrade")
	}
	return slices.Compact(notes)
}
