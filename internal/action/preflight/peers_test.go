package preflight

import (
	"fmt"
	"slices"
	"testing"
)

func TestSamplePeers_CoversAllPeersWithThreePerHost(t *testing.T) {
	var all []string
	for i := range 10 {
		all = append(all, fmt.Sprintf("10.0.0.%d", i+1))
	}
	queried := map[string]int{}
	for _, self := range all {
		chosen := SamplePeers(self, all)
		if len(chosen) != 3 || !slices.Equal(chosen, SamplePeers(self, append([]string{all[3]}, all...))) {
			t.Errorf("%s asks %v", self, chosen)
		}
		for _, c := range chosen {
			queried[c]++
		}
	}
	if len(queried) < 9 {
		t.Errorf("only %d of 10 are asked: %v", len(queried), queried)
	}
	if got := SamplePeers("x", []string{"b", "a", "b"}); !slices.Equal(got, []string{"a", "b"}) {
		t.Error(got)
	}
}
