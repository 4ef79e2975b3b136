package status

import (
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/kube"
)

func TestMissingNodeWarnings_SayHowTheyEnd(t *testing.T) {
	got := missingNodeWarnings([]kube.PVC{{Namespace: "a", Name: "uploads", Node: "n2"}})
	want := []string{"the volume of claim a/uploads is on node n2, which is not in the cluster: its pods wait until you delete the claim and create it again: plinth kubectl delete pvc -n a uploads"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := missingNodeWarnings(nil); got != nil {
		t.Errorf("%q", got)
	}
}
