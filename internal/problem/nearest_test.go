package problem

import "testing"

func TestNearest_ReturnsClosestCandidate(t *testing.T) {
	words := []string{"bundle", "sign-key", "output", "log-file", "yes"}
	for typed, want := range map[string]string{"bundel": "bundle", "bundles": "bundle", "ouput": "output", "log": "log-file",
		"sing-key": "sign-key", "yse": "yes", "zzz": "", "": "", "x": ""} {
		t.Run(typed, func(t *testing.T) {
			if got := Nearest(typed, words); got != want {
				t.Errorf("Nearest(%q) = %q, want %q", typed, got, want)
			}
		})
	}
}
