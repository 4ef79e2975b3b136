package spec

import "testing"

// Run this with and without -tags devstates.
func TestIsInstallable_PreReleases(t *testing.T) {
	for version, want := range map[string]bool{
		"v1.35.7+k0s.0":       true,
		"v1.35.0-dev+k0s.0":   installsDevStates,
		"v1.36.0-dev+k0s.0":   installsDevStates,
		"v1.37.0-dev+k0s.0":   false,
		"v1.35.0-rc.1+k0s.0":  false,
		"v1.35.0-dev.1+k0s.0": false,
		"v1.35.0-dev+k3s1":    false,
	} {
		t.Run(version, func(t *testing.T) {
			if got := Versions().IsInstallable(version); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}
