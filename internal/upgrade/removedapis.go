package upgrade

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

//go:embed removedapis.yaml
var removedAPIsFile []byte

// RemovedAPI is a version of an API that a Kubernetes minor no longer serves.
type RemovedAPI struct {
	Minor      int      `yaml:"minor"`      // 37 for Kubernetes 1.37: the first that does not serve it
	APIVersion string   `yaml:"apiVersion"` // "networking.k8s.io/v1beta1"
	Kinds      []string `yaml:"kinds"`
	Use        string   `yaml:"use"` // the API version to use instead
}

// AllRemovedAPIs returns the table of this build.
func AllRemovedAPIs() []RemovedAPI { return removedAPIs() }

var removedAPIs = sync.OnceValue(func() []RemovedAPI {
	type table struct {
		Removed []RemovedAPI `yaml:"removed"`
	}
	return mustDecode[table]("removedapis.yaml", removedAPIsFile).Removed
})

// RemovedBetween returns the rows of table for what an upgrade from one release of k0s to a later one removes. The
// cluster has to be searched for their use only if there are any.
func RemovedBetween(table []RemovedAPI, from, to string) (removed []RemovedAPI) {
	for _, r := range table {
		if r.Minor > spec.KubernetesMinor(from) && r.Minor <= spec.KubernetesMinor(to) {
			removed = append(removed, r)
		}
	}
	return removed
}

// FindRemoved returns the row for a kind of an API version; ok is false if there is none.
func FindRemoved(removed []RemovedAPI, apiVersion, kind string) (row RemovedAPI, ok bool) {
	i := slices.IndexFunc(removed, func(r RemovedAPI) bool { return r.APIVersion == apiVersion && slices.Contains(r.Kinds, kind) })
	if i < 0 {
		return RemovedAPI{}, false
	}
	return removed[i], true
}

// APIUse is the use of a removed API: by an object of the cluster, or by the manifest of a Helm release, which Helm
// reads at the next upgrade of the release.
type APIUse struct {
	APIVersion string // the removed version
	Kind       string
	Namespace  string // "" if the kind has none
	Name       string
	Manager    string // field manager that wrote the object with the removed version; "" for a release
	Release    string // Helm release whose manifest contains the object, "namespace/name"; "" for an object
}

// String returns the user of the API: "ServiceCIDR extra (written by kubectl)".
func (u APIUse) String() string {
	name := u.Name
	if u.Namespace != "" {
		name = u.Namespace + "/" + name
	}
	if u.Release != "" {
		return fmt.Sprintf("%s %s in the Helm release %s", u.Kind, name, u.Release)
	}
	return fmt.Sprintf("%s %s (written by %s)", u.Kind, name, u.Manager)
}

// CheckAPIs returns a refusal for each of the removed APIs that is used, with all its users.
func CheckAPIs(removed []RemovedAPI, uses []APIUse) (refusals []Refusal) {
	for _, row := range removed {
		var users []string
		for _, u := range uses {
			if _, ok := FindRemoved([]RemovedAPI{row}, u.APIVersion, u.Kind); ok {
				users = append(users, u.String())
			}
		}
		if len(users) == 0 {
			continue
		}
		slices.Sort(users)
		refusals = append(refusals, Refusal{Subject: row.APIVersion, Exit: problem.ExitPreflight,
			Reason: fmt.Sprintf("Kubernetes 1.%d removes it, and it is still used by %s", row.Minor, strings.Join(slices.Compact(users), ", ")),
			Fix:    fmt.Sprintf("write these objects with %s, and upgrade these releases to charts that do", row.Use)})
	}
	return refusals
}
