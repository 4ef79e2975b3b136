package addons

import "testing"

func TestPodSecurity_RefusesUnknownLevels(t *testing.T) {
	for _, p := range []PodSecurity{{}, {Enforce: "restricted"}, {Enforce: "Restricted", Warn: "baseline"}} {
		if p.check() == nil {
			t.Errorf("%+v", p)
		}
	}
}
