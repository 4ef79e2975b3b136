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

func TestNoteRemovedNode_KeepsNotesWhileCertificatesAreValid(t *testing.T) {
	s, c := kubetest.New(t)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	data := map[string]any{"damaged": "{"}
	for i := range 2100 {
		data[fmt.Sprintf("uid-%d", i)] = fmt.Sprintf(`{"node":"w","by":"c1","at":%q}`, now.AddDate(-2, 0, 0).Add(time.Duration(i)*12*time.Hour).Format(time.RFC3339))
	}
	obj := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "plinth-removed-nodes", "namespace": "kube-system"}, "data": data}
	s.Put(removedPath, obj)
	if err := c.NoteRemovedNode(t.Context(), "new", kube.RemovedNode{Node: "w", At: now}); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[string]bool{"new": true, "uid-2099": true, "uid-800": true, "uid-700": false, "uid-0": false} {
		if _, ok, err := c.RemovedNode(t.Context(), uid); ok != want || err != nil {
			t.Errorf("%s: %v %v", uid, ok, err)
		}
	}
	if left := s.Object(removedPath)["data"].(map[string]any); left["damaged"] != nil {
		t.Error("a damaged note is kept")
	}
}
