package plan

import (
	"maps"
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

func TestDeleteRecord_NotesTheAdmissionThatItEnds(t *testing.T) {
	for name, admitted := range map[string]bool{"a node": true, "a node that another run has just removed": false} {
		t.Run(name, func(t *testing.T) {
			_, client := kubetest.New(t)
			kubetest.RecordNodes(t, client, kube.NodeRecord{Node: "n1", UID: "first", Role: token.Controller})
			if admitted {
				kubetest.RecordNodes(t, client, kube.NodeRecord{Node: "w1", UID: "second", Role: token.Worker})
			}
			s := LeavingNode{Name: "w1", Kube: client, RemovedBy: "an administrator on n1"}.deleteRecord()
			testkit.Must(t, s.Apply(t.Context(), nil))
			records, err := client.NodeRecords(t.Context())
			note, noted, err2 := client.RemovedNode(t.Context(), "second")
			testkit.Must(t, err, err2)
			if left := slices.Sorted(maps.Keys(records)); !slices.Equal(left, []string{"n1"}) || noted != admitted || noted && note.Node != "w1" {
				t.Errorf("left %q, note %+v %v", left, note, noted)
			}
		})
	}
}
