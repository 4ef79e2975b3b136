// Package compat decides whether a version of the KOTS add-on is compatible with an
// application (the KOTS version gate). Rules, parsing and order are those of KOTS's
// own IsKotsVersionCompatibleWithApp, except that a value that is not a version makes
// the result Undecidable, where KOTS ignores it.
package compat

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Version is a parsed KOTS version. The zero value is not a version.
type Version struct{ v *semver.Version }

// ParseVersion parses s like KOTS: surrounding white space and one leading "v" are
// ignored, a missing minor or patch number is 0 if there is no pre-release or build
// part, and the rest is strict SemVer 2. The error describes what is wrong and does
// not repeat s.
func ParseVersion(s string) (Version, error) {
	t := strings.TrimPrefix(strings.TrimSpace(s), "v")
	core, _, _ := strings.Cut(t, "+")
	core, pre, _ := strings.Cut(core, "-")
	switch dots := strings.Count(core, "."); {
	case t == "":
		return Version{}, errors.New("it is empty")
	case dots > 2:
		return Version{}, errors.New("it has more than three numbers")
	case dots < 2 && core != t:
		return Version{}, errors.New("a pre-release or build part needs all three numbers before it")
	case dots < 2:
		t += strings.Repeat(".0", 2-dots)
	}
	v, err := semver.StrictNewVersion(t)
	if err != nil {
		return Version{}, describeParseError(err)
	}
	for id := range strings.SplitSeq(pre, ".") {
		// KOTS's parser rejects numbers above 64 bits; semver/v3 would compare them as text.
		if _, err := strconv.ParseUint(id, 10, 64); errors.Is(err, strconv.ErrRange) && strings.Trim(id, "0123456789") == "" {
			return Version{}, describeParseError(err)
		}
	}
	return Version{v}, nil
}

// describeParseError returns a readable error for one of the semver library, which
// can repeat its input.
func describeParseError(err error) error {
	switch {
	case errors.Is(err, semver.ErrSegmentStartsZero):
		return errors.New("a number has a leading zero")
	case errors.Is(err, strconv.ErrRange):
		return errors.New("a number is too large")
	case errors.Is(err, semver.ErrInvalidPrerelease):
		return errors.New("its pre-release part is not valid")
	case errors.Is(err, semver.ErrInvalidMetadata):
		return errors.New("its build part is not valid")
	}
	return errors.New("it does not have the format 1.2.3")
}

// Compare returns -1, 0 or +1 if v is below, equal to or above w in SemVer 2 order;
// build metadata is ignored.
func (v Version) Compare(w Version) int { return v.v.Compare(w.v) }

// String returns the normalized version: no "v", three numbers.
func (v Version) String() string { return v.v.String() }

// Input is the input of the gate; all versions are unparsed.
type Input struct {
	Actual       string   // version of the KOTS add-on
	Min          string   // the Application's spec.minKotsVersion, "" if absent
	Target       string   // the Application's spec.targetKotsVersion, "" if absent
	FirstInstall bool     // there is no receipt and no KOTS in the cluster; only then Target applies
	Known        []string // releases of KOTS that may be suggested in place of Actual
}

// Outcome is the decision of the gate.
type Outcome string

// The four outcomes. Only Pass and Unchecked allow an installation.
const (
	Pass        Outcome = "pass"
	Block       Outcome = "block"
	Undecidable Outcome = "undecidable" // a value is not a version
	Unchecked   Outcome = "unchecked"   // there is no bound to check
)

// The fields of the manifests that contain the versions.
const (
	FieldAddOn  = "spec.kotsadm.version"
	FieldMin    = "spec.minKotsVersion"
	FieldTarget = "spec.targetKotsVersion"
)

// Invalid is a value that is not a version.
type Invalid struct {
	Field  string `json:"field"`  // FieldAddOn, FieldMin or FieldTarget
	Value  string `json:"value"`  // as in the manifest
	Reason string `json:"reason"` // why it is not a version: "it has more than three numbers"
}

// Result is the decision of the gate with its reason.
type Result struct {
	Outcome      Outcome   `json:"outcome"`
	FirstInstall bool      `json:"firstInstall"`
	Actual       string    `json:"actual,omitempty"`     // the add-on's version, normalized if it is valid
	Bound        string    `json:"bound,omitempty"`      // Block: FieldMin or FieldTarget
	Value        string    `json:"value,omitempty"`      // Block: the bound as in the manifest
	Normalized   string    `json:"normalized,omitempty"` // Block: the bound, normalized
	Fitting      string    `json:"fitting,omitempty"`    // Block: the newest known KOTS that passes, "" if none does
	Invalid      []Invalid `json:"invalid,omitempty"`    // Undecidable: every invalid value
	Note         string    `json:"note,omitempty"`       // Unchecked: why there is nothing to check
}

// Allowed reports whether the gate allows the installation.
func (v Result) Allowed() bool { return v.Outcome == Pass || v.Outcome == Unchecked }

// NewUnchecked returns the result for an installation in which one of the two
// manifests is missing; note names it.
func NewUnchecked(note string) Result { return Result{Outcome: Unchecked, Note: note} }

// Check returns the decision of the gate. An update is blocked below Min, a first
// installation below Min or above Target; equality passes both. All invalid values
// are reported, before any comparison and even if this installation does not need
// them.
func Check(in Input) Result {
	result := Result{Outcome: Pass, FirstInstall: in.FirstInstall, Actual: in.Actual}
	parse := func(field, value string) Version {
		v, err := ParseVersion(value)
		if err != nil {
			result.Outcome = Undecidable
			result.Invalid = append(result.Invalid, Invalid{field, value, err.Error()})
		}
		return v
	}
	bound := func(field, value string) Version {
		if value == "" {
			return Version{}
		}
		return parse(field, value)
	}
	actual, lowest, target := parse(FieldAddOn, in.Actual), bound(FieldMin, in.Min), bound(FieldTarget, in.Target)
	if result.Outcome == Undecidable {
		return result
	}
	result.Actual = actual.String()
	block := func(name, written string, v Version) {
		result.Outcome, result.Bound, result.Value, result.Normalized = Block, name, written, v.String()
		result.Fitting = newestFitting(in)
	}
	switch {
	case in.Min == "" && in.Target == "":
		result.Outcome, result.Note = Unchecked, fmt.Sprintf("the Application sets neither %s nor %s", FieldMin, FieldTarget)
	case in.Min != "" && actual.Compare(lowest) < 0:
		block(FieldMin, in.Min, lowest)
	case in.FirstInstall && in.Target != "" && actual.Compare(target) > 0:
		block(FieldTarget, in.Target, target)
	}
	return result
}

// newestFitting returns the newest of the known releases with which the gate passes, or "".
func newestFitting(in Input) string {
	var newest Version
	candidates := in.Known
	in.Known = nil
	for _, known := range candidates {
		v, err := ParseVersion(known)
		in.Actual = known
		if err == nil && (newest.v == nil || v.Compare(newest) > 0) && Check(in).Allowed() {
			newest = v
		}
	}
	if newest.v == nil {
		return ""
	}
	return newest.String()
}
