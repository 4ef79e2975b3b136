package kube_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
)

const removedPath = "/api/v1/namespaces/kube-system/configmaps/plinth-removed-nodes"

func TestRemovedNode_IsOfOneAdmission(t *testing.T) {
	_, c := kubetest.New(t)
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	if r, ok, err := c.RemovedNode(t.Context(), "uid-1"); ok || err != nil {
		t.Errorf("before any removal: %+v %v", r, err)
	}
	note := kube.RemovedNode{Node: "w", By: "an administrator on c1", At: at}
	for range 2 { // a removal that was interrupted is repeated
		if err := c.NoteRemovedNode(t.Context(), "uid-1", note); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.NoteRemovedNode(t.Context(), "", note); err == nil {
		t.Error("a note without a UID")
	}
	if r, ok, err := c.RemovedNode(t.Context(), "uid-1"); !ok || err != nil || r != note {
		t.Errorf("%+v %v %v", r, ok, err)
	}
	if r, ok, err := c.RemovedNode(t.Context(), "uid-2"); ok || err != nil {
		t.Errorf("another admission of the same name: %+v %v", r, err)
	}
}

func TestNoteRemovedNode_DeletesOnlyTheOldestForWantOfRoom(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		count int // notes before
		at    time.Time
		want  map[string]bool // which notes are left
	}{
		"enough room":                            {10, now, map[string]bool{"new": true, "uid-0": true, "uid-9": true, "damaged": true}},
		"enough room, by a clock far ahead":      {10, now.AddDate(30, 0, 0), map[string]bool{"new": true, "uid-0": true, "uid-9": true}},
		"no room":                                {2100, now, map[string]bool{"new": true, "uid-2099": true, "uid-101": true, "uid-100": false, "uid-0": false, "damaged": false}},
		"no room, by a clock far ahead":          {2100, now.AddDate(30, 0, 0), map[string]bool{"new": true, "uid-2099": true, "uid-101": true, "uid-100": false}},
		"no room, by a clock that never was set": {2100, time.Unix(0, 0).UTC(), map[string]bool{"new": true, "uid-2099": true, "uid-101": true, "uid-100": false}},
	} {
		t.Run(name, func(t *testing.T) {
			s, client := kubetest.New(t)
			data := map[string]any{"damaged": "{"}
			for i := range c.count {
				data[fmt.Sprintf("uid-%d", i)] = fmt.Sprintf(`{"node":"w","by":"c1","at":%q}`, now.AddDate(-2, 0, 0).Add(time.Duration(i)*12*time.Hour).Format(time.RFC3339))
			}
			s.Put(removedPath, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "plinth-removed-nodes", "namespace": "kube-system"}, "data": data})
			if err := client.NoteRemovedNode(t.Context(), "new", kube.RemovedNode{Node: "w", At: c.at}); err != nil {
				t.Fatal(err)
			}
			left := s.Object(removedPath)["data"].(map[string]any)
			for uid, want := range c.want {
				if got := left[uid] != nil; got != want {
					t.Errorf("%s: %v", uid, got)
				}
			}
			if len(left) > 2000 {
				t.Errorf("%d notes", len(left))
			}
		})
	}
}
