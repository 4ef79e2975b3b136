// Package upgrade decides whether a cluster can be upgraded to another bundle, what
// that changes, and whether the cluster is worse afterwards. Its decisions are pure:
// internal/kube and internal/helm gather their inputs.
package upgrade

import (
	"errors"
	"fmt"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// Refusal is a reason why an upgrade cannot begin.
type Refusal struct {
	Subject string `json:"subject"`       // field of the Installer, such as "spec.network.podCIDR", or an object of the cluster
	Was     string `json:"was,omitempty"` // installed value, without secrets; Was and Is are "" if the subject did not change
	Is      string `json:"is,omitempty"`  // value in the new bundle, without secrets
	Reason  string `json:"reason"`        // why it is refused
	Fix     string `json:"fix"`           // what to do instead
	Exit    int    `json:"exit"`          // exit code of the command, see package problem
}

// String returns the refusal in one line: "spec.network.podCIDR: was A, is B: cannot be changed because …; …".
func (r Refusal) String() string {
	change := ""
	if r.Was != "" || r.Is != "" {
		change = fmt.Sprintf("was %s, is %s: ", r.Was, r.Is)
	}
	return fmt.Sprintf("%s: %s%s; %s", r.Subject, change, r.Reason, r.Fix)
}

// RefusalError returns all refusals of an upgrade of the cluster as one Problem; see RefusalErrorOf.
func RefusalError(refusals []Refusal) error { return RefusalErrorOf("upgrade this cluster", refusals) }

// RefusalErrorOf returns all refusals of an operation, such as "upgrade this cluster", as one Problem, or nil if there are
// none. Its exit code is the lowest of theirs: an invalid Installer (3) comes before the gate (4) and the checks (5).
func RefusalErrorOf(operation string, refusals []Refusal) error {
	if len(refusals) == 0 {
		return nil
	}
	exit := refusals[0].Exit
	var lines []string
	for _, r := range refusals {
		exit = min(exit, r.Exit)
		lines = append(lines, r.String())
	}
	cause := lines[0]
	if len(lines) > 1 {
		cause = fmt.Sprintf("there are %d reasons\n  %s", len(lines), strings.Join(lines, "\n  "))
	}
	return problem.New(exit, operation, errors.New(cause), "nothing in the cluster has changed")
}

// Versions are the versions of a cluster's components, by their keys below spec of an Installer: k0s, kotsadm,
// registry. The receipt records them in the same form.
type Versions map[string]string

// VersionsOf returns the versions that an Installer requests.
func VersionsOf(in *spec.Installer) Versions {
	v := Versions{k0sKey: in.Spec.K0s.Version}
	for _, pin := range in.AddOns() {
		v[pin.Key] = pin.Version
	}
	return v
}

// Keys of Versions with rules of their own.
const (
	k0sKey  = "k0s"
	kotsKey = "kotsadm"
)

// versionField returns the path of the field that holds the version of a component.
func versionField(key string) string { return "spec." + key + ".version" }
