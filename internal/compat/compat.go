// Package compat owns the KOTS version gate: may this version of the KOTS
// add-on carry this application? The rule, its parsing and its order are those
// of KOTS's own IsKotsVersionCompatibleWithApp, decided here before a host is
// touched. It refuses to guess: a value that is no version makes the question
// undecidable, where KOTS would look away. It reads nothing and changes nothing.
package compat

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Version is a parsed version of KOTS. The zero value is not a version.
type Version struct{ v *semver.Version }

// Parse reads s as KOTS does: surrounding white space and one leading "v" do not
// count, a missing minor or patch is 0 where there is no pre-release or build
// part, and the rest is strict SemVer 2. The error says what is wrong and does
// not repeat s.
func Parse(s string) (Version, error) {
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
		return Version{}, reason(err)
	}
	for id := range strings.SplitSeq(pre, ".") {
		// KOTS's parser refuses numbers above 64 bits; semver/v3 would order them as text.
		if _, err := strconv.ParseUint(id, 10, 64); errors.Is(err, strconv.ErrRange) && strings.Trim(id, "0123456789") == "" {
			return Version{}, reason(err)
		}
	}
	return Version{v}, nil
}

// reason turns an error of the semver library, which may repeat its input, into
// words for a person.
func reason(err error) error {
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
	return errors.New("it is not of the form 1.2.3")
}

// Compare is -1, 0 or +1 as v is below, equal to or above w in SemVer 2 order;
// build metadata does not count.
func (v Version) Compare(w Version) int { return v.v.Compare(w.v) }

// String is the normalised form: no "v", three numbers.
func (v Version) String() string { return v.v.String() }

// Input is one question to the gate; every value as its author wrote it.
type Input struct {
	Actual       string // version of the KOTS add-on
	Min          string // the Application's spec.minKotsVersion, "" if absent
	Target       string // the Application's spec.targetKotsVersion, "" if absent
	FirstInstall bool   // no receipt and no KOTS in the cluster: only then target counts
}

// Outcome is the answer of the gate.
type Outcome string

// The four answers. Only Pass and Unchecked let an install go on.
const (
	Pass        Outcome = "pass"
	Block       Outcome = "block"
	Undecidable Outcome = "undecidable" // a value is not a version
	Unchecked   Outcome = "unchecked"   // there is no bound to check against
)

// The names of the values, as they stand in the manifests.
const (
	AddOn  = "spec.kotsadm.version"
	Min    = "spec.minKotsVersion"
	Target = "spec.targetKotsVersion"
)

// Invalid is a value that is not a version.
type Invalid struct {
	Field  string `json:"field"`  // AddOn, Min or Target
	Value  string `json:"value"`  // as written
	Reason string `json:"reason"` // "it has more than three numbers"
}

// Verdict is the answer and what it rests on.
type Verdict struct {
	Outcome      Outcome   `json:"outcome"`
	FirstInstall bool      `json:"firstInstall"`
	Actual       string    `json:"actual,omitempty"`     // the add-on's version, normalised if it is one
	Bound        string    `json:"bound,omitempty"`      // Block: Min or Target
	Value        string    `json:"value,omitempty"`      // Block: the bound as written
	Normalised   string    `json:"normalised,omitempty"` // Block: the bound as compared
	Invalid      []Invalid `json:"invalid,omitempty"`    // Undecidable: every bad value
	Note         string    `json:"note,omitempty"`       // Unchecked: why there was nothing to check
}

// Allowed tells whether the gate lets the install go on.
func (v Verdict) Allowed() bool { return v.Outcome == Pass || v.Outcome == Unchecked }

// Skip is the verdict where one of the two manifests is missing; note says which.
func Skip(note string) Verdict { return Verdict{Outcome: Unchecked, Note: note} }

// Check decides. An update is blocked below Min; a first install below Min or
// above Target; equality passes both. Values that are no version are all
// reported, before any comparison and whether or not this install would need them.
func Check(in Input) Verdict {
	verdict := Verdict{Outcome: Pass, FirstInstall: in.FirstInstall, Actual: in.Actual}
	parse := func(field, value string) Version {
		v, err := Parse(value)
		if err != nil {
			verdict.Outcome = Undecidable
			verdict.Invalid = append(verdict.Invalid, Invalid{field, value, err.Error()})
		}
		return v
	}
	bound := func(field, value string) Version {
		if value == "" {
			return Version{}
		}
		return parse(field, value)
	}
	actual, lowest, target := parse(AddOn, in.Actual), bound(Min, in.Min), bound(Target, in.Target)
	if verdict.Outcome == Undecidable {
		return verdict
	}
	verdict.Actual = actual.String()
	block := func(name, written string, v Version) {
		verdict.Outcome, verdict.Bound, verdict.Value, verdict.Normalised = Block, name, written, v.String()
	}
	switch {
	case in.Min == "" && in.Target == "":
		verdict.Outcome, verdict.Note = Unchecked, fmt.Sprintf("the Application sets neither %s nor %s", Min, Target)
	case in.Min != "" && actual.Compare(lowest) < 0:
		block(Min, in.Min, lowest)
	case in.FirstInstall && in.Target != "" && actual.Compare(target) > 0:
		block(Target, in.Target, target)
	}
	return verdict
}
