package kube_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/testkit"
)

const upgradePath = "/api/v1/namespaces/kube-system/configmaps/plinth-upgrade"

func TestUpgradeRecord_IsCreatedChangedAndRead(t *testing.T) {
	s, c := kubetest.New(t)
	if r, err := c.UpgradeRecord(t.Context()); err != nil || r.Active() {
		t.Errorf("a cluster that was never upgraded: %+v, %v", r, err)
	}
	want := kube.UpgradeRecord{From: "sha256:1", To: "sha256:2", Cluster: "my-app", Phase: kube.UpgradeStarted, Coordinator: "n1", StartedAt: time.Unix(0, 0).UTC()}
	set := func(r *kube.UpgradeRecord) error { *r = want; return nil }
	testkit.Must(t, c.UpdateUpgradeRecord(t.Context(), set), c.UpdateUpgradeRecord(t.Context(), set))
	if writes := s.Writes(); len(writes) != 1 {
		t.Errorf("an unchanged record was written: %v", writes)
	}
	if r, err := c.UpgradeRecord(t.Context()); err != nil || !reflect.DeepEqual(r, want) || !r.Active() {
		t.Errorf("%+v, %v", r, err)
	}
	refused := errors.New("refused")
	if err := c.UpdateUpgradeRecord(t.Context(), func(r *kube.UpgradeRecord) error { r.To = "sha256:3"; return refused }); !errors.Is(err, refused) || len(s.Writes()) != 0 {
		t.Errorf("%v", err)
	}
	for _, phase := range []kube.UpgradePhase{kube.UpgradeDone, kube.UpgradeRolledBack} {
		testkit.Must(t, c.UpdateUpgradeRecord(t.Context(), func(r *kube.UpgradeRecord) error { r.Phase = phase; return nil }))
		if r, err := c.UpgradeRecord(t.Context()); err != nil || r.Active() {
			t.Errorf("%s: %+v, %v", phase, r, err)
		}
	}
	s.Put(upgradePath, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "plinth-upgrade"}, "data": map[string]any{"upgrade": "{"}})
	if _, err := c.UpgradeRecord(t.Context()); err == nil {
		t.Error("a damaged record was read")
	}
}

func TestSkipNodes_KeepsThatTheUpgradeHasCordonedOne(t *testing.T) {
	var r kube.UpgradeRecord
	r.SetNode("w1", kube.UpgradeNode{State: kube.NodeUpgrading, Cordoned: true})
	r.SkipNodes([]string{"w1", "w2"}, time.Unix(1, 0))
	if one, two := r.Nodes["w1"], r.Nodes["w2"]; one.State != kube.NodeSkipped || !one.Cordoned || two.State != kube.NodeSkipped || two.Cordoned {
		t.Errorf("%+v", r.Nodes)
	}
}

func TestUpgradeRecord_KnowsItsNodes(t *testing.T) {
	s, c := kubetest.New(t)
	at := func(sec int64) time.Time { return time.Unix(sec, 0).UTC() }
	set := func(state kube.UpgradeNodeState, sec int64) {
		t.Helper()
		testkit.Must(t, c.UpdateUpgradeRecord(t.Context(), func(r *kube.UpgradeRecord) error {
			r.To = "sha256:2"
			r.SetNode("w1", kube.UpgradeNode{State: state, Since: at(sec)})
			return nil
		}))
	}
	set(kube.NodeDelivering, 1)
	set(kube.NodeDelivering, 2)
	if writes := s.Writes(); len(writes) != 1 {
		t.Errorf("an unchanged record was written: %v", writes)
	}
	for _, tt := range []struct {
		state   kube.UpgradeNodeState
		reached bool
	}{{kube.NodeDelivered, false}, {kube.NodeDraining, false}, {kube.NodeUpgrading, true}, {kube.NodeUpgraded, true}, {kube.NodeFailed, true}, {kube.NodeRolledBack, false}, {kube.NodeSkipped, false}} {
		set(tt.state, 3)
		r, err := c.UpgradeRecord(t.Context())
		if n := r.Nodes["w1"]; err != nil || n.State != tt.state || !n.Since.Equal(at(3)) || r.ReachedNodes() != tt.reached {
			t.Errorf("%s: %+v, reached %v, %v", tt.state, n, r.ReachedNodes(), err)
		}
	}
}
